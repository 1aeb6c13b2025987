"""The settings of reading, fits and sweeps: names, defaults and ranges are declared and checked here."""

from nwbrnn.config.base import MAX_SEED, CheckedSettings, Ended, Nonlinearity, Role
from nwbrnn.config.fit import GROUPS, FitConfig
from nwbrnn.config.jobs import JobConfig, SweepConfig
from nwbrnn.config.reading import ReadConfig

__all__ = [
    "GROUPS",
    "MAX_SEED",
    "CheckedSettings",
    "Ended",
    "FitConfig",
    "JobConfig",
    "Nonlinearity",
    "ReadConfig",
    "Role",
    "SweepConfig",
]
