"""The settings of a sweep, and the sections of a ``fit.yaml``."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nwbrnn.config.base import CheckedSettings
from nwbrnn.config.fit import FitConfig
from nwbrnn.config.reading import ReadConfig


class SweepConfig(CheckedSettings):
    """The grid of a sweep: every combination is one cell.

    Examples
    --------
    >>> SweepConfig(sampled=(0, 20), held_out="condition").seeds
    10
    """

    sampled: tuple[int | float | str, ...] = Field(
        (0, 5, 10, 20, 50, "100%"),
        min_length=1,
        description="numbers of sampled neurons, each as in FitConfig.sampled",
    )
    seeds: int = Field(
        10, ge=1, le=1000, description="number of networks for each combination, with seeds from 0 on"
    )
    held_out: Literal["trials", "condition", "outputs", "between"] = Field(
        "trials",
        description="what to hold out: trials of each condition; each condition in turn, all of it or only "
        "its outputs; or every other condition at once",
    )
    pool: bool = Field(
        False,
        description="whether all files are sessions of one pool, to which each network is fitted; otherwise "
        "each file is fitted alone",
    )
    sessions: tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...] = Field(
        (),
        description="numbers of files to pool, to find out what more sessions bring; every network is scored "
        "on one of its sessions, which stays the same whatever the number",
    )
    vary: dict[str, tuple[Any, ...]] = Field({}, description="other settings of a fit -> their values")
    resamples: int = Field(
        25,
        ge=0,
        le=100_000,
        description="number of resampled sets of test trials for the interval of a score",
    )

    @field_validator("vary", mode="before")
    @classmethod
    def _list_values(cls, values: Any) -> Any:
        """Convert a single value to a list of one."""
        if not isinstance(values, dict):
            return values
        return {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in values.items()}

    @field_validator("vary")
    @classmethod
    def _check_vary(cls, values: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        own = {"sampled", "seed", "seeds", "held_out", "held_out_conditions", "start_from", "sessions"}
        known = set(FitConfig.model_fields) - own
        wrong = sorted(set(values) - known)
        if wrong:
            raise ValueError(
                f"expected settings of a fit other than {', '.join(sorted(own))}, but got "
                f"{', '.join(wrong)}; name others"
            )
        return values

    @model_validator(mode="after")
    def _check_pools(self) -> Self:
        if self.pool and self.sessions:
            raise ValueError(
                "pool: expected either one pool of all files (pool) or pools of several sizes (sessions), "
                "but got both; leave one out"
            )
        return self


class JobConfig(CheckedSettings):
    """The sections of a ``fit.yaml``."""

    read: ReadConfig = ReadConfig()
    fit: FitConfig = FitConfig()

    @field_validator("read", "fit", mode="before")
    @classmethod
    def _allow_nothing(cls, value: Any) -> Any:
        """Use the defaults for a section without settings."""
        return {} if value is None else value
