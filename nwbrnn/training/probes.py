"""Measure how robust a network is, from its outputs when its state or its inputs are disturbed."""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.evaluation import compute_skill
from nwbrnn.prediction.disturbances import KINDS
from nwbrnn.prediction.equations import EQUATIONS
from nwbrnn.prediction.observations import find_start
from nwbrnn.preprocessing import average_conditions, normalize_outputs

Array = NDArray[np.floating]

N_REPEATS = 10


def probe(recorded: xr.Dataset, weights: Mapping[str, Array], config: FitConfig) -> dict[str, float]:
    """Disturb a network and score its outputs on the condition averages of the test trials.

    Disturbances of the state are proportional to the network's own activity, so that networks with different
    amplitudes are compared fairly. Disturbances of the inputs are the same for all networks. At level ε:

    - *initial state*: the state after the first bin is shifted by Gaussian noise of ε times the RMS of the
      network's states over all units, bins and conditions;
    - *inputs*: Gaussian noise, new in every bin, is added to each input, with ε times the RMS of that input
      over all bins and conditions;
    - *kick*: as for the initial state, but in the bin after a quarter of the time from 0 (or from the start)
      to the end.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    weights
        Arrays by parameter name.
    config
        Settings of the fit.

    Returns
    -------
    dict
        ``"output skill, disturbed KIND LEVEL"``, averaged over ten repeats; see
        :func:`nwbrnn.evaluation.compute_skill`.
    """
    everything = average_conditions(normalize_outputs(recorded))
    tests = average_conditions(normalize_outputs(recorded).isel(trial=recorded["split"].values == "test"))
    reference = everything["outputs"].values[everything["mask"].values]
    equation = EQUATIONS[config.network](weights, config, bin_size=recorded.attrs["bin_size"])
    inputs = np.nan_to_num(tests["inputs"].values).astype(equation.dtype)
    start = equation.begin(find_start(tests, recorded, config), len(inputs))
    mask = tests["mask"].values
    target = tests["outputs"].values[mask]

    def score(*, shift: Array | None = None, added: Array | float = 0.0) -> float:
        """Return the mean skill of all repeats, which run together."""
        given = np.tile(inputs, (N_REPEATS, 1, 1)) + added
        outputs = equation.read(equation.run(given, np.tile(start, (N_REPEATS, 1)), shift=shift).rates)
        repeats = outputs.reshape(N_REPEATS, len(inputs), *outputs.shape[1:])
        return float(np.mean([compute_skill(one[mask], target, reference) for one in repeats]))

    rates = equation.run(inputs, start).rates
    strength = np.sqrt(np.square(equation.invert(rates.astype(np.float64))).mean())
    input_sizes = np.sqrt(np.square(inputs[mask]).mean(axis=0))
    time = tests["time"].values
    begin = max(time[0], 0.0)
    middle = int(np.searchsorted(time, begin + (time[-1] - begin) / 4))
    generator = torch.Generator().manual_seed(config.seed)

    def draw(*shape: int) -> Array:
        return np.asarray(torch.randn(*shape, generator=generator).numpy())

    scores = {}
    for kind, levels in KINDS.items():
        for level in levels:
            if kind == "inputs":
                drawn = np.concatenate([draw(*inputs.shape) for _ in range(N_REPEATS)])
                found = score(added=(level * input_sizes * drawn).astype(inputs.dtype))
            else:
                drawn = np.concatenate([draw(len(rates), rates.shape[2]) for _ in range(N_REPEATS)])
                shift = np.zeros((len(drawn), *rates.shape[1:]), dtype=np.float32)
                shift[:, 0 if kind == "initial state" else middle] = level * strength * drawn
                found = score(shift=shift)
            scores[f"output skill, disturbed {kind} {level:g}"] = found
    return scores
