"""Read an NWB file into a Dataset."""

from nwbrnn.readers.inspect import Inspection, inspect_nwb, read_subject
from nwbrnn.readers.pooled import (
    PoolPlan,
    outline_sessions,
    plan_pool,
    read_session,
    read_sessions,
    reread_sessions,
)
from nwbrnn.readers.recording import read_nwb
from nwbrnn.readers.run import read_run

__all__ = [
    "Inspection",
    "PoolPlan",
    "inspect_nwb",
    "outline_sessions",
    "plan_pool",
    "read_nwb",
    "read_run",
    "read_session",
    "read_sessions",
    "read_subject",
    "reread_sessions",
]
