"""Measure whether a network responds to perturbations as its simulated circuit does."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.mechanism.teacher import Teacher
from nwbrnn.prediction import (
    find_components,
    forget_observer,
    map_population,
    map_units,
    predict,
    shift_states,
)

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.floating]]

N_COMPONENTS = 6  # leading components of the circuit, within which its state is kicked
N_KICKS, N_DIRECTIONS = 8, 6
KICK = 0.5  # of the circuit's own standard deviation in each component
PUSH = 10.0  # of one neuron [Hz]


class Responses(NamedTuple):
    """Responses to the same perturbations: perturbed minus unperturbed, after the go cue.

    Attributes
    ----------
    outputs, rates
        Responses of network and circuit, each of shape (n_runs, n_time, n_channels), in the scale of the
        fit; rates are those of unsampled neurons.
    """

    outputs: tuple[Array, Array]
    rates: tuple[Array, Array]


def compare_responses(teacher: Teacher, weights: Weights, config: FitConfig) -> dict[str, float]:
    """Perturb circuit and network in the same way at the go cue, and compare their responses.

    - *state*: eight kicks within the circuit's six leading components, Gaussian with half of the
      circuit's standard deviation in each. The network is kicked by the hidden rates that correspond to these
      components, found by regression on its own unperturbed activity.
    - *one neuron*: each of eight neurons, sampled ones if there are any, is pushed alone by 10 Hz.

    Parameters
    ----------
    teacher
        The simulated circuit of the fit.
    weights, config
        Weights and settings of the network.

    Returns
    -------
    dict
        ``"response correlation, WHAT"`` and ``"response R2, WHAT"`` over all runs, bins and channels, and
        also with the suffix ``", one neuron pushed"``. R² is relative to no response: 1 - Σ(y - ŷ)² / Σy².
        Empty if the Dataset has no bin before the go cue or none after it.

    References
    ----------
    .. [1] O'Shea, Duncker et al. 2022, bioRxiv, doi:10.1101/2022.12.16.520768, on kicks within and outside
       the space that a circuit visits.
    """
    recorded = teacher.recorded
    if not recorded["time"].values[0] < 0 <= recorded["time"].values[-1]:
        return {}
    weights, config = forget_observer(weights, config)
    network = predict(recorded, weights, config)
    kicks, mapping = draw_kicks(teacher), find_components(recorded, N_COMPONENTS)[0]
    to_hidden = mapping @ map_population(recorded, network["hidden"].values, mapping)
    found = measure_responses(teacher, weights, config, (kicks, kicks @ to_hidden))
    scores = _score(found, "")
    pushes = draw_pushes(recorded, config)
    pushed = map_units(recorded, weights, config, pushes)
    return scores | _score(
        measure_responses(teacher, weights, config, (pushes, pushed)), ", one neuron pushed"
    )


def draw_kicks(teacher: Teacher, *, seed: int = 0) -> Array:
    """Return kicks of the circuit's rates, shape (n_kicks, n_units) [Hz]."""
    components, deviations = find_components(teacher.recorded, N_COMPONENTS)
    drawn: Array = np.random.default_rng(seed).standard_normal((N_KICKS, len(deviations)))
    return np.asarray(KICK * drawn * deviations @ components.T)


def draw_pushes(recorded: xr.Dataset, config: FitConfig, *, seed: int = 0) -> Array:
    """Return pushes of single neurons, shape (n_pushes, n_units) [Hz]."""
    sampled = recorded["sampled"].values & (config.dynamics_factor > 0)
    among = np.flatnonzero(sampled if sampled.any() else ~sampled)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(among, min(N_KICKS, len(among)), replace=False)
    return np.asarray(PUSH * np.eye(len(sampled))[chosen])


def measure_responses(
    teacher: Teacher, weights: Weights, config: FitConfig, changes: tuple[Array, Array]
) -> Responses:
    """Return the responses of circuit and network to changes at the go cue.

    Parameters
    ----------
    teacher, weights, config
        As :func:`compare_responses`.
    changes
        Changes of the circuit's rates, shape (n_changes, n_units) [Hz], and of the network's hidden rates,
        shape (n_changes, n_hidden) [1], each applied in up to six conditions of the test trials.
    """
    recorded, tests = teacher.recorded, teacher.tests.isel(trial=slice(N_DIRECTIONS))
    n_runs, n_changes = tests.sizes["trial"], len(changes[0])
    go = int(np.searchsorted(recorded["time"].values, 0.0))
    conditions = np.repeat(tests["condition"].values, n_changes).tolist()
    kicks, hidden = (np.tile(change, (n_runs, 1)) for change in changes)
    rates = teacher.run(conditions, kicks=kicks) - np.repeat(teacher.undisturbed[:n_runs], n_changes, axis=0)
    repeated = tests.isel(trial=np.repeat(np.arange(n_runs), n_changes))
    repeated = repeated.assign_coords(trial=np.arange(len(conditions)))
    jumps = np.zeros((len(conditions), recorded.sizes["time"], hidden.shape[1]))
    jumps[:, go - 1] = hidden  # the state at the end of the last bin before the go cue
    before = predict(repeated, weights, config, fitted=recorded)
    states = before["hidden"].values.astype(np.float64)
    shift = shift_states(states, jumps, weights, config, bin_size=recorded.attrs["bin_size"])
    after = predict(repeated, weights, config, shift=shift, fitted=recorded)
    unsampled = ~recorded["sampled"].values
    of_outputs, of_rates = (recorded[name].values for name in ("output_scale", "rate_scale"))
    outputs, predicted = ((after[name].values - before[name].values)[:, go:] for name in ("outputs", "rates"))
    true = rates[:, go:]
    return Responses(
        (outputs / of_outputs, teacher.read(true) / of_outputs),
        ((predicted / of_rates)[..., unsampled], (true / of_rates)[..., unsampled]),
    )


def _score(found: Responses, suffix: str) -> dict[str, float]:
    """Return correlation and R² of outputs and unsampled neurons."""
    scores = {}
    for what, (network, teacher) in (("outputs", found.outputs), ("unsampled neurons", found.rates)):
        scores[f"response correlation, {what}{suffix}"] = correlate(network, teacher)
        scores[f"response R2, {what}{suffix}"] = compute_response_r2(network, teacher)
    return scores


def correlate(first: Array, second: Array) -> float:
    """Pearson's correlation over all values of two responses; NaN if one does not vary.

    Examples
    --------
    >>> round(correlate(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])), 6)
    1.0
    """
    x, y = (
        np.ravel(values) - np.mean(values) if np.size(values) else np.zeros(1) for values in (first, second)
    )
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y / size) if size > 0 else float("nan")


def compute_response_r2(predicted: Array, target: Array) -> float:
    """1 - Σ(y - ŷ)² / Σy²: 1 for equal responses, 0 for predicting none; NaN without a response.

    Examples
    --------
    >>> compute_response_r2(np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    0.8
    """
    total = float(np.square(target).sum())
    return float(1 - np.square(target - predicted).sum() / total) if total > 0 else float("nan")
