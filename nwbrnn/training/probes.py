"""Measure how robust a network is, from its outputs when its state or its inputs are disturbed."""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.evaluation import compute_skill
from nwbrnn.models import NETWORKS
from nwbrnn.preprocessing import average_conditions, normalize_outputs
from nwbrnn.training.batches import find_start

Array = NDArray[np.floating]

LEVELS = (0.1, 0.2, 0.4)
INPUT_LEVELS = (0.25, 0.5, 1.0)
N_REPEATS = 10
KINDS = {"initial state": LEVELS, "inputs": INPUT_LEVELS, "kick": LEVELS}


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
    model = NETWORKS[config.network].from_weights(weights, config, bin_size=recorded.attrs["bin_size"])
    inputs = torch.from_numpy(np.nan_to_num(tests["inputs"].values).astype(weights["input_weights"].dtype))
    start = find_start(tests, recorded, config)
    given = None if start is None else torch.from_numpy(start)
    mask = tests["mask"].values
    target = tests["outputs"].values[mask]

    def score(noise: torch.Tensor | None = None, *, added: torch.Tensor | float = 0.0) -> float:
        with torch.no_grad():
            outputs, _ = model(inputs + added, start=given, noise=noise)
        return compute_skill(outputs.numpy()[mask], target, reference)

    with torch.no_grad():
        _, rates = model(inputs, start=given)
        strength = model.invert(rates.double()).square().mean().sqrt()
    input_sizes = torch.from_numpy(np.sqrt(np.square(inputs.numpy()[mask]).mean(axis=0)))
    time = tests["time"].values
    begin = max(time[0], 0.0)
    middle = int(np.searchsorted(time, begin + (time[-1] - begin) / 4))
    generator = torch.Generator().manual_seed(config.seed)
    scores = {}
    for kind, levels in KINDS.items():
        for level in levels:
            found = []
            for _ in range(N_REPEATS):
                if kind == "inputs":
                    drawn = torch.randn(*inputs.shape, generator=generator)
                    found.append(score(added=(level * input_sizes * drawn).to(inputs.dtype)))
                else:
                    shift = torch.zeros(*rates.shape)
                    drawn = torch.randn(len(rates), rates.shape[2], generator=generator)
                    shift[:, 0 if kind == "initial state" else middle] = level * strength * drawn
                    found.append(score(model.shift_states(shift).to(inputs.dtype)))
            scores[f"output skill, disturbed {kind} {level:g}"] = float(np.mean(found))
    return scores
