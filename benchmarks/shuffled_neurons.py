"""Networks that observe neurons which tell nothing of the trial, against the same networks without neurons.

Each neuron of each trial is that of another trial, drawn for each neuron anew. What is left of the neurons is
their mean course. A network that observes them should fall back to the one that is told only the task.

    OMP_NUM_THREADS=1 python benchmarks/shuffled_neurons.py session.nwb --seeds 3
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

import nwbrnn
from nwbrnn.evaluation import get_spec, score_horizons

SCORE = get_spec("single-trial output R2").name


def shuffle_neurons(ds: xr.Dataset, *, seed: int) -> xr.Dataset:
    """Return trials whose neurons were drawn from all trials."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(ds.sizes["trial"]) for _ in range(ds.sizes["unit"])]
    names = [name for name in ("rates", "spike_counts") if name in ds]
    shuffled = {
        name: np.stack([ds[name].values[order, :, i] for i, order in enumerate(orders)], axis=2)
        for name in names
    }
    return ds.assign({name: (ds[name].dims, values, ds[name].attrs) for name, values in shuffled.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.5, help="observe_dropout of the fits")
    given = parser.parse_args()
    ds = nwbrnn.read_nwb(given.file)
    for kind in ("as recorded", "shuffled"):
        for observe in ("none", "all"):
            values = []
            for seed in range(given.seeds):
                data = ds if kind == "as recorded" else shuffle_neurons(ds, seed=seed)
                result = nwbrnn.fit(data, observe=observe, observe_dropout=given.dropout, seed=seed)
                values += score_horizons(result.recorded, [result.predicted])[SCORE]
            shown = ", ".join(f"{value:.3f}" for value in values)
            print(f"{kind}, observe {observe}: {np.mean(values):.3f} ({shown})", flush=True)


if __name__ == "__main__":
    main()
