"""How well a student with default settings does on a recording, over several seeds.

A seed decides the split of trials, the sampled neurons and the initial weights. Prints scores on
condition averages of the held-out trials, each with its ceiling.

    python benchmarks/recordings.py session.nwb --seeds 10
"""

import argparse

import numpy as np

import nwbrnn

NAMES = ("output R2", "sampled neurons R2", "unsampled neurons R2", "canonical correlation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sampled", type=float, default=20)
    args = parser.parse_args()
    ds = nwbrnn.read_nwb(args.file)
    print("seed | " + " | ".join(f"{name} (ceiling)" for name in NAMES))
    rows = []
    for seed in range(args.seeds):
        scores = nwbrnn.fit(ds, sampled=args.sampled, seed=seed).scores
        found = [scores.get(name) for name in NAMES]
        rows.append([(score.value, score.ceiling) for score in found])
        print(f"{seed} | " + " | ".join(f"{v:.3f} ({c:.3f})" for v, c in rows[-1]), flush=True)
    mean = np.mean(rows, axis=0)
    print("mean | " + " | ".join(f"{v:.3f} ({c:.3f})" for v, c in mean))


if __name__ == "__main__":
    main()
