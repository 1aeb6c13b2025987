"""Run the teacher and return what was recorded from it as a Dataset."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from nwbrnn.dataset import create_dataset
from nwbrnn.errors import ConfigError
from nwbrnn.limits import describe_shortage
from nwbrnn.teacher import reaching
from nwbrnn.teacher.reaching import TeacherConfig
from nwbrnn.teacher.soc import BASELINE_RATE, Array, Circuit, build_circuit, gain, integrate

STEP = 0.001  # integration step [s]; halving it changes rates by less than 1e-6 of their range


def simulate_teacher(config: TeacherConfig | None = None, *, circuit: Circuit | None = None) -> xr.Dataset:
    """Simulate reaches of a stability-optimised circuit.

    Parameters
    ----------
    config
        Numbers of neurons, directions, trials and muscles, times, noise, seed.
    circuit
        A circuit built before; default: built from ``config.seed``, 0.6 s for 100 neurons.

    Returns
    -------
    xarray.Dataset
        ``rates`` [Hz], Poisson ``spike_counts``, ``outputs`` (muscles [a.u.]), ``inputs`` (direction as
        cosine and sine times the preparatory ramp, go cue), ``connectivity`` and ``readout``. Time 0
        is the go cue. ``attrs["teacher"]`` is the configuration as JSON.

    Raises
    ------
    ConfigError
        If times are not whole numbers of bins, or bins of milliseconds, if no circuit can be built, or if
        the simulation needs more memory than there is.
    """
    config = config or TeacherConfig()
    n_before = _count_bins("preparation", config.preparation, config.bin_size)
    n_bins = n_before + _count_bins("movement", config.movement, config.bin_size)
    n_substeps = _count_bins("bin_size", config.bin_size, STEP)
    n_runs = config.n_directions * config.n_trials
    # the states of every step, and three arrays made of them
    shortage = describe_shortage(4 * 8 * n_runs * n_bins * n_substeps * config.n_neurons)
    if shortage:
        raise ConfigError(
            f"n_trials: {n_runs} trials of {config.n_neurons} neurons need {shortage}; use fewer or "
            "shorter ones"
        )
    circuit = circuit or build_circuit(config.n_neurons, seed=config.seed)
    directions = reaching.compute_directions(config.n_directions)
    drive = reaching.compute_preparatory_drive(circuit, reaching.compute_initial_states(circuit, directions))
    fine_time = np.asarray((np.arange(n_bins * n_substeps) + 0.5) * STEP - n_before * config.bin_size)
    profile = reaching.compute_preparation_profile(fine_time)
    # independent streams, so that changing e.g. the number of muscles leaves the noise as it is
    readout_rng, noise_rng, spike_rng = np.random.default_rng(config.seed).spawn(3)

    def run(patterns: Array, noise: Callable[[], Array] | None) -> Array:
        def drive_at(i: int) -> Array:
            shared = np.asarray(profile[i] * patterns)
            return shared + noise() if noise else shared

        states = integrate(circuit, np.zeros_like(patterns), drive_at, dt=STEP, n_steps=len(fine_time))
        rates = gain(states[:, :-1] / 2 + states[:, 1:] / 2)
        return np.asarray(rates.reshape(len(patterns), n_bins, n_substeps, -1).mean(axis=2))

    n_excitatory = circuit.n_excitatory
    weights, offsets = reaching.create_readout(
        run(drive, None)[..., :n_excitatory], config.n_muscles, readout_rng
    )
    reach = np.tile(np.arange(config.n_directions), config.n_trials)
    noise = _create_noise(config.noise, (len(reach), len(circuit.weights)), noise_rng)
    rates = run(drive[reach], noise)
    muscles = rates[..., :n_excitatory] @ weights.T + offsets
    firing = (rates + BASELINE_RATE).astype(np.float32)
    time = np.asarray((np.arange(n_bins) - n_before + 0.5) * config.bin_size, dtype=np.float64)
    variables: dict[str, ArrayLike] = {
        "rates": firing,
        "spike_counts": spike_rng.poisson(firing * config.bin_size),
        "outputs": muscles.astype(np.float32),
        "inputs": _create_inputs(directions[reach], time),
        "connectivity": circuit.weights,
        "readout": np.pad(weights, ((0, 0), (0, len(circuit.weights) - n_excitatory))),
    }
    kinds = np.where(np.arange(len(circuit.weights)) < n_excitatory, "excitatory", "inhibitory")
    coords = {
        "time": time,
        "condition": np.array([f"{d:g}" for d in directions[reach]]),
        "output": np.array([f"muscle_{i + 1}" for i in range(config.n_muscles)]),
        "input": np.array(["direction_cos", "direction_sin", "go_cue"]),
        "direction": ("trial", directions[reach], {"units": "degrees"}),
        "cell_type": ("unit", kinds),
        "readout_offset": ("output", offsets),
    }
    return create_dataset(
        variables, coords, bin_size=config.bin_size, attrs={"teacher": config.model_dump_json()}
    )


def _create_inputs(directions: Array, time: Array) -> Array:
    """Return what the task shows the network, shape (n_trials, n_time, 3) [1]."""
    angle = np.deg2rad(directions)
    shown = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    # the fall after the go cue is far shorter than a bin: the input is over when the cue comes
    inputs = (
        shown[:, np.newaxis]
        * np.where(time < 0, reaching.compute_preparation_profile(time), 0.0)[:, np.newaxis]
    )
    inputs[..., 2] = time > 0
    return np.asarray(inputs, dtype=np.float32)


def _create_noise(sd: float, shape: tuple[int, int], rng: np.random.Generator) -> Callable[[], Array]:
    """Return a source of Ornstein-Uhlenbeck noise with stationary standard deviation ``sd``."""
    keep = np.exp(-STEP / reaching.NOISE_TAU)
    state = sd * rng.standard_normal(shape)

    def step() -> Array:
        nonlocal state
        state = keep * state + sd * np.sqrt(1 - keep**2) * rng.standard_normal(shape)
        return np.asarray(state)

    return step


def _count_bins(name: str, duration: float, bin_size: float) -> int:
    """Return how many bins fit, or refuse a duration that is not a whole number of them."""
    n_bins = round(duration / bin_size)
    if n_bins < 1 or abs(n_bins * bin_size - duration) > 1e-9:
        raise ConfigError(
            f"{name}: expected a whole number of {bin_size:g} s, but got {duration:g} s; "
            f"use {max(n_bins, 1) * bin_size:g} s"
        )
    return n_bins
