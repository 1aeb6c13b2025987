"""How the assets of a dandiset are read, pooled and fitted."""

import json
from dataclasses import dataclass, field
from typing import Literal

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig


@dataclass(frozen=True)
class Settings:
    """How the assets are read and fitted.

    Attributes
    ----------
    read
        Settings of reading.
    fit
        Settings of the fit.
    seeds
        Number of networks for each fit, from seed 0 on; the one with the lowest loss is written.
    pool
        ``"subject"`` fits one network to all assets of a subject; otherwise each asset is fitted alone.
    """

    read: ReadConfig = field(default_factory=ReadConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    seeds: int = 1
    pool: Literal["subject"] | None = None

    @property
    def grid(self) -> SweepConfig:
        """The settings as a sweep, with one cell for each asset and seed."""
        return SweepConfig(sampled=(self.fit.sampled,), seeds=self.seeds)

    @property
    def text(self) -> str:
        """The settings as text; assets that were fitted with another text are fitted again."""
        parts = {"read": self.read.model_dump(mode="json"), "fit": self.fit.model_dump(mode="json")}
        del parts["fit"]["processes"]
        pool = {"pool": self.pool} if self.pool else {}
        return json.dumps(parts | pool | {"seeds": self.seeds}, sort_keys=True)
