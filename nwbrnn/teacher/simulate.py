"""Run a simulated circuit and return its activity as a Dataset."""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from nwbrnn.dataset import create_dataset
from nwbrnn.errors import ConfigError
from nwbrnn.limits import describe_shortage
from nwbrnn.teacher import reaching
from nwbrnn.teacher.mechanisms import MECHANISMS
from nwbrnn.teacher.reaching import TeacherConfig
from nwbrnn.teacher.soc import BASELINE_RATE, Array, Circuit, gain, integrate, invert_gain
from nwbrnn.threads import limit_threads

STEP = 0.001  # integration step [s]; halving it changes rates by less than 1e-6 of their range


class Reaches:
    """A circuit and the movements of its settings, to run with noise, kicks or neither.

    Parameters
    ----------
    config
        Settings with directions and times.
    circuit
        The connectivity.

    Attributes
    ----------
    directions
        Shape (n_directions,) [degrees].
    time
        Centres of the bins, shape (n_time,) [s]; 0 is the go cue.
    drive
        The preparatory input of each direction at the go cue, shape (n_directions, n_neurons) [Hz].

    Raises
    ------
    ConfigError
        If times are not whole numbers of bins, or if bins are not whole numbers of milliseconds.
    """

    def __init__(self, config: TeacherConfig, circuit: Circuit) -> None:
        self.circuit = circuit
        self._n_before = _count_bins("preparation", config.preparation, config.bin_size)
        n_bins = self._n_before + _count_bins("movement", config.movement, config.bin_size)
        self._n_substeps = _count_bins("bin_size", config.bin_size, STEP)
        self._fine_time = np.asarray(
            (np.arange(n_bins * self._n_substeps) + 0.5) * STEP - self._n_before * config.bin_size
        )
        self.time = np.asarray((np.arange(n_bins) - self._n_before + 0.5) * config.bin_size, dtype=np.float64)
        self.directions = reaching.compute_directions(config.n_directions)
        self.drive = self.compute_drive(self.directions)

    def compute_drive(self, directions: Array) -> Array:
        """Return the preparatory input at the go cue, shape (n_directions, n_neurons) [Hz]."""
        states = reaching.compute_initial_states(self.circuit, directions)
        return reaching.compute_preparatory_drive(self.circuit, states)

    @cached_property
    def input_patterns(self) -> Array:
        """Input of each neuron per unit of cosine and sine of the direction, shape (2, n_neurons) [Hz]."""
        return self.compute_drive(np.array([0.0, 90.0]))

    def run(
        self,
        drive: Array,
        *,
        noise: Callable[[], Array] | None = None,
        kicks: Array | None = None,
        added: Array | None = None,
    ) -> Array:
        """Return the mean rates above baseline in each bin, shape (n_runs, n_time, n_neurons) [Hz].

        Parameters
        ----------
        drive
            Preparatory input of each run, shape (n_runs, n_neurons) [Hz].
        noise
            Function for the noise to add to the input in each integration step, shape
            (n_runs, n_neurons) [Hz].
        kicks
            Jump of the rates at the go cue, shape (n_runs, n_neurons) [Hz]; rates beyond the range of the
            gain function stop near its end.
        added
            Values to add to the inputs cosine and sine of the direction, shape (n_runs, n_time, 2) [1].
        """
        profile = reaching.compute_preparation_profile(self._fine_time)

        def follow(bins: range, state: Array, drive: Array) -> tuple[Array, Array]:
            """Return the rates in some bins and the state at their end."""

            def drive_at(first: int, i: int) -> Array:
                shared = np.asarray(profile[first + i] * drive)
                if added is not None:
                    shared = shared + added[:, first // self._n_substeps] @ self.input_patterns
                return shared + noise() if noise else shared

            rates = np.empty((len(drive), len(bins), drive.shape[1]))
            for number, bin_ in enumerate(bins):
                given = partial(drive_at, bin_ * self._n_substeps)
                states = integrate(self.circuit, state, given, dt=STEP, n_steps=self._n_substeps)
                rates[:, number] = gain(states[:, :-1] / 2 + states[:, 1:] / 2).mean(axis=1)
                state = states[:, -1]
            return rates, state

        if kicks is None or noise is not None or added is not None:
            before, state = follow(range(self._n_before), np.zeros_like(drive), drive)
        else:  # runs of the same drive are the same until they are kicked
            same, which = np.unique(drive, axis=0, return_inverse=True)
            found = follow(range(self._n_before), np.zeros_like(same), same)
            before, state = (values[which.ravel()] for values in found)
        released = state if kicks is None else invert_gain(gain(state) + kicks)
        after, _ = follow(range(self._n_before, len(self.time)), released, drive)
        return np.concatenate([before, after], axis=1)


@limit_threads()
def simulate_teacher(config: TeacherConfig | None = None, *, circuit: Circuit | None = None) -> xr.Dataset:
    """Simulate reaches of a circuit, by default a stability-optimized one.

    Parameters
    ----------
    config
        Mechanism, numbers of neurons, directions, trials and muscles, times, noise, seed.
    circuit
        An existing circuit; by default, one is built from ``config.seed``, in 0.6 s for 100 neurons.

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

    Examples
    --------
    >>> ds = simulate_teacher(TeacherConfig(n_neurons=60, n_directions=3, n_trials=2))
    >>> ds.sizes["trial"], ds.sizes["unit"]
    (6, 60)
    """
    config = config or TeacherConfig()
    _check_memory(config)
    mechanism = MECHANISMS[config.teacher]
    circuit = circuit or Circuit(mechanism.build(config.n_neurons, config.seed))
    reaches = Reaches(config, circuit)
    # independent streams, so that changing, for example, the number of muscles does not change the noise
    readout_rng, noise_rng, spike_rng = np.random.default_rng(config.seed).spawn(3)
    n_neurons, n_read = len(circuit.weights), circuit.n_excitatory
    weights, offsets = reaching.create_readout(
        reaches.run(reaches.drive)[..., :n_read], config.n_muscles, readout_rng
    )
    reach = np.tile(np.arange(config.n_directions), config.n_trials)
    noise = create_noise(config.noise, (len(reach), n_neurons), noise_rng)
    rates = reaches.run(reaches.drive[reach], noise=noise)
    muscles = rates[..., :n_read] @ weights.T + offsets
    firing = (rates + BASELINE_RATE).astype(np.float32)
    directions = reaches.directions[reach]
    variables: dict[str, ArrayLike] = {
        "rates": firing,
        "spike_counts": spike_rng.poisson(firing * config.bin_size),
        "outputs": muscles.astype(np.float32),
        "inputs": create_inputs(directions, reaches.time),
        "connectivity": circuit.weights,
        "readout": np.pad(weights, ((0, 0), (0, n_neurons - n_read))),
    }
    coords = {
        "time": reaches.time,
        "condition": np.array([f"{d:g}" for d in directions]),
        "output": np.array([f"muscle_{i + 1}" for i in range(config.n_muscles)]),
        "input": np.array(["direction_cos", "direction_sin", "go_cue"]),
        "direction": ("trial", directions, {"units": "degrees"}),
        "readout_offset": ("output", offsets),
    }
    if mechanism.has_cell_types:
        kinds = np.where(np.arange(n_neurons) < n_read, "excitatory", "inhibitory")
        coords["cell_type"] = ("unit", kinds)
    return create_dataset(
        variables, coords, bin_size=config.bin_size, attrs={"teacher": config.model_dump_json()}
    )


def _check_memory(config: TeacherConfig) -> None:
    """Refuse a simulation that does not fit into memory: the rates of all bins and three such arrays."""
    n_runs = config.n_directions * config.n_trials
    n_bins = round((config.preparation + config.movement) / config.bin_size)
    shortage = describe_shortage(4 * 8 * n_runs * n_bins * config.n_neurons)
    if shortage:
        raise ConfigError(
            f"n_trials: {n_runs} trials of {config.n_neurons} neurons need {shortage}; use fewer or "
            "shorter ones"
        )


def create_inputs(directions: Array, time: Array) -> Array:
    """Return the task inputs of the network, shape (n_trials, n_time, 3) [1]."""
    angle = np.deg2rad(directions)
    shown = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    # the fall after the go cue is far shorter than a bin, so the input ends at the cue
    inputs = (
        shown[:, np.newaxis]
        * np.where(time < 0, reaching.compute_preparation_profile(time), 0.0)[:, np.newaxis]
    )
    inputs[..., 2] = time > 0
    return np.asarray(inputs, dtype=np.float32)


def create_noise(sd: float, shape: tuple[int, int], rng: np.random.Generator) -> Callable[[], Array]:
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
