"""Virtual targets: predicted recordings for directions in which the subject did not reach."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import fit_ridge
from nwbrnn.schema import COSINE, MASKED, SINE, TRIAL

Array = NDArray[Any]

# of the harmonics; if we leave out one of few directions in turn, we would choose 1, at which the regression
# was worse in each of eight directions held out in two recordings
PENALTY = 0.1


def add_virtual_targets(averages: xr.Dataset, n_targets: int) -> xr.Dataset:
    """Add directions evenly around the circle, with time courses predicted from the known directions.

    Each bin of each channel is predicted by ridge regression on two harmonics of the direction. This
    regression explains held-out directions better than a network fitted to the others, and the network then
    learns its predictions. Inputs have their average strength.

    Parameters
    ----------
    averages
        Condition averages of the trials that are trained on, with a direction as cosine and sine inputs.
    n_targets
        Number of directions; the first is that of the first condition.

    Returns
    -------
    xarray.Dataset
        The averages, followed by the virtual targets.

    Raises
    ------
    ConfigError
        If no input is a direction, or if there are fewer than three directions.
    """
    names = [str(name) for name in averages["input"].values]
    pairs = _find_directions(names)
    if len(pairs) != 1:
        raise ConfigError(
            f"virtual_targets: expected one direction among the inputs, as cosine and sine, but there are "
            f"{', '.join(names)}; leave it at 0"
        )
    inputs = np.nan_to_num(averages["inputs"].values).astype(np.float64)
    cosine, sine = (inputs[..., column] for column in pairs[0])
    rows = np.arange(len(inputs)), np.hypot(cosine, sine).argmax(axis=1)
    angles = np.arctan2(sine[rows], cosine[rows])
    rows_shown = np.flatnonzero(averages["split"].values != "dynamics_only")
    n_shown = len(np.unique(angles[rows_shown].round(6)))
    if n_shown < 3:
        raise ConfigError(
            f"virtual_targets: expected 3 directions whose outputs are trained on, but got {n_shown}; "
            "leave it at 0"
        )
    wanted = angles[0] + 2 * np.pi * np.arange(n_targets) / n_targets
    shown = np.repeat(inputs.mean(axis=0)[np.newaxis], n_targets, axis=0)
    harmonics = [(1, pairs[0])] + [(2, pair) for pair in _find_directions(names, "2")]
    for harmonic, pair in harmonics:
        size = np.hypot(*(inputs[..., column] for column in pair)).mean(axis=0)
        for column, function in zip(pair, (np.cos, np.sin), strict=True):
            shown[..., column] = size * function(harmonic * wanted)[:, np.newaxis]
    virtual = averages.isel(trial=np.zeros(n_targets, dtype=int))
    seen = np.asarray(averages["mask"].values).all(axis=0)
    changed: dict[str, Array] = {"inputs": shown, "mask": np.stack([seen] * n_targets)}
    for name in (name for name in MASKED if name in averages and name != "inputs"):
        chosen = rows_shown if name == "outputs" else np.arange(len(angles))
        known = np.where(averages["mask"].values[..., np.newaxis], averages[name].values, 0)[chosen]
        changed[name] = _predict(known, angles[chosen], wanted)
    if "spike_counts" in changed:
        changed["spike_counts"] = np.maximum(changed["spike_counts"], 0)
    virtual = virtual.assign({name: (averages[name].dims, values) for name, values in changed.items()})
    labels = [f"virtual {np.rad2deg(angle) % 360:.0f}" for angle in wanted]
    virtual = virtual.assign_coords(condition=(TRIAL, labels), split=(TRIAL, ["train"] * n_targets))
    return xr.concat(
        [averages, virtual],
        dim=TRIAL,
        data_vars="minimal",  # variables without trials, such as the connectivity of a circuit, stay as is
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )


def _find_directions(names: list[str], harmonic: str = "") -> list[tuple[int, int]]:
    """Return the columns of cosine and sine of each direction, or of twice the direction ('2')."""
    cosine, sine = COSINE + harmonic, SINE + harmonic
    starts = [name.removesuffix(cosine) for name in names if name.endswith(cosine)]
    return [(names.index(n + cosine), names.index(n + sine)) for n in starts if n + sine in names]


def _predict(values: Array, angles: Array, wanted: Array) -> Array:
    """Return time courses in other directions, shape (n_wanted, n_time, n_channels).

    Each value is that of the directions in which it was observed, and NaN if there are none.
    """
    flat = values.reshape(len(values), -1)
    known, asked = (_expand(one) for one in (angles, wanted))
    ridge = fit_ridge([(known, flat)], penalties=[PENALTY])
    return ridge.predict(asked).reshape(len(wanted), *values.shape[1:])


def _expand(angles: Array) -> Array:
    """Return two harmonics of directions, shape (n_directions, 4)."""
    return np.stack([f(k * angles) for k in (1, 2) for f in (np.cos, np.sin)], axis=1)
