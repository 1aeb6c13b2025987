"""Does training on sampled neurons help with directions never trained on?

For each seed: a new teacher (200 neurons, 8 directions, 5 trials each), and for each of its directions two
students that never see that direction, one trained on the muscles alone (dynamics weight 0) and one also on
25 % of the neurons. Prints output R2 on condition averages of the direction left out.

    python benchmarks/held_out_directions.py --seeds 3
"""

import argparse

import numpy as np

import nwbrnn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=600)
    args = parser.parse_args()
    print(
        "seed | output R2, outputs only | + dynamics of 25 % | better in "
        "| unsampled neurons R2, outputs only | + dynamics of 25 %"
    )
    for seed in range(args.seeds):
        ds = nwbrnn.simulate_teacher(nwbrnn.TeacherConfig(seed=seed))
        scores: dict[float, list[tuple[float, float]]] = {0.0: [], 1.0: []}
        for direction in dict.fromkeys(ds["condition"].values.tolist()):
            for weight, found in scores.items():
                result = nwbrnn.fit(
                    ds,
                    sampled=0.25,
                    dynamics_weight=weight,
                    held_out_conditions=(direction,),
                    epochs=args.epochs,
                    seed=seed,
                )
                names = ("output R2", "unsampled neurons R2")
                found.append(tuple(result.scores.get(name).value for name in names))
        only, both = (np.array(scores[weight]) for weight in (0.0, 1.0))
        wins = int((both[:, 0] > only[:, 0]).sum())
        print(
            f"{seed} | {only[:, 0].mean():.3f} | {both[:, 0].mean():.3f} | {wins} of {len(only)} "
            f"| {only[:, 1].mean():.3f} | {both[:, 1].mean():.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
