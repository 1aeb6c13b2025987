"""A sweep in which cells with 3 sampled neurons kill their worker; run by test_sweep.py."""

import json
import sys

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.sweep import run_sweep

if __name__ == "__main__":
    table = run_sweep(
        sys.argv[1:2],
        sys.argv[2],
        SweepConfig(sampled=(0, 3), seeds=1, resamples=0),
        configs=(ReadConfig(), FitConfig(hidden=20, epochs=3, min_rate=0)),
    )
    names = ("sampled", "status", "error")
    rows = zip(*(table[name].values.tolist() for name in names), strict=True)
    print(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
