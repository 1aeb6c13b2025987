"""The settings of reading, fits and sweeps: names, defaults and ranges are declared and checked here."""

from nwbrnn.config.base import (
    MAX_FACTOR,
    MAX_NUMBER,
    MAX_SEED,
    CheckedSettings,
    Ended,
    Label,
    Nonlinearity,
    Parameter,
    Role,
)
from nwbrnn.config.fit import GROUPS, FitConfig
from nwbrnn.config.jobs import JobConfig, SweepConfig
from nwbrnn.config.reading import ReadConfig

__all__ = [
    "GROUPS",
    "MAX_FACTOR",
    "MAX_NUMBER",
    "MAX_SEED",
    "CheckedSettings",
    "Ended",
    "FitConfig",
    "JobConfig",
    "Label",
    "Nonlinearity",
    "Parameter",
    "ReadConfig",
    "Role",
    "SweepConfig",
]
