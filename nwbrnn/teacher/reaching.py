"""Reaching movements: the inputs that drive the circuit, and the muscles that read it out."""

import numpy as np
import scipy  # loads its parts on first use
from pydantic import Field, field_validator

from nwbrnn.config import MAX_SEED, CheckedSettings
from nwbrnn.teacher.mechanisms import MECHANISMS
from nwbrnn.teacher.soc import TAU, Array, Circuit, gain

STATE_SCALE = 1.5  # ‖x‖ / √N at movement onset [Hz], Hennequin et al. 2014
RAMP_TAU = 0.15  # rise of the preparatory input [s]; our choice, scaled to the shorter preparation
FALL_TAU = 0.002  # its fall after the go cue [s], Hennequin et al. 2014
MARGIN = 0.2  # of the leak over the spectral abscissa, for a Gramian; as for the smoothed abscissa
NOISE_TAU = 0.05  # correlation time of the input noise [s], Hennequin et al. 2014


class TeacherConfig(CheckedSettings):
    """The settings that, with the package version, determine a simulation exactly.

    Examples
    --------
    >>> TeacherConfig(n_neurons=60, n_directions=4).n_trials
    5
    """

    teacher: str = Field("soc", description=f"mechanism of the circuit: {', '.join(MECHANISMS)}")
    n_neurons: int = Field(
        200, ge=2, le=5000, description="number of neurons; the first half drives the muscles"
    )
    n_directions: int = Field(
        8, ge=1, le=360, description="number of reach directions, evenly spaced from 0 degrees"
    )
    n_trials: int = Field(5, ge=1, le=10_000, description="number of trials of each direction")
    n_muscles: int = Field(6, ge=1, le=1000, description="number of muscle-like outputs")
    preparation: float = Field(0.5, gt=0, le=60, description="time before the go cue [s]")
    movement: float = Field(0.7, gt=0, le=60, description="time after the go cue [s]")
    bin_size: float = Field(0.01, ge=0.001, le=1, description="sampling interval of the stored data [s]")
    noise: float = Field(0.5, ge=0, description="standard deviation of the input noise [Hz]")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="seed of the connectivity, the readout, the noise and the spikes"
    )

    @field_validator("teacher")
    @classmethod
    def _check_teacher(cls, value: str) -> str:
        if value not in MECHANISMS:
            raise ValueError(f"expected one of {', '.join(MECHANISMS)}")
        return value


def compute_directions(n_directions: int) -> Array:
    """Return evenly spaced reach directions, shape (n_directions,) [degrees]."""
    return np.arange(n_directions) * 360.0 / n_directions


def compute_initial_states(circuit: Circuit, directions: Array) -> Array:
    """Return the state from which each reach starts.

    x = cos θ v1 + sin θ v2 with the two leading eigenvectors of the observability Gramian of W - I, the
    states that evoke the largest transients (Hennequin et al. 2014), scaled to ‖x‖ = 1.5 √N. If W - I is
    unstable, as in a ring, the Gramian is that of W - (α + 0.2) I, with α the spectral abscissa.

    Parameters
    ----------
    circuit
        The connectivity.
    directions
        Reach directions, shape (n_directions,) [degrees].

    Returns
    -------
    ndarray
        Shape (n_directions, n_neurons) [Hz].
    """
    n_neurons = len(circuit.weights)
    leak = max(1.0, circuit.abscissa + MARGIN)
    system = circuit.weights - leak * np.eye(n_neurons)
    gramian = scipy.linalg.solve_continuous_lyapunov(system.T, -2 * np.eye(n_neurons))
    leading = np.linalg.eigh(gramian)[1][:, :-3:-1]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), [0, 1]])  # fix the sign
    angle = np.deg2rad(directions)
    mixture = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(STATE_SCALE * np.sqrt(n_neurons) * mixture @ leading.T)


def compute_preparatory_drive(circuit: Circuit, states: Array) -> Array:
    """Return the input that, ramped up exponentially, brings the network to ``states`` by the go cue.

    On the ramp exp(t / τ_ramp), the linearized network follows x = h / (1 + τ/τ_ramp - W).
    """
    return np.asarray((1 + TAU / RAMP_TAU) * states - gain(states) @ circuit.weights.T)


def compute_preparation_profile(time: Array) -> Array:
    """Return the time course of the preparatory input, any shape [1]; 1 at the go cue (time 0)."""
    return np.where(time < 0, np.exp(time / RAMP_TAU), np.exp(-np.maximum(time, 0) / FALL_TAU))


def create_readout(rates: Array, n_muscles: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return random muscle weights and offsets, scaled on noiseless reaches.

    Parameters
    ----------
    rates
        Excitatory rates above baseline of noiseless reaches, shape (n_reaches, n_time, n_excitatory) [Hz].
    n_muscles
        Number of muscles.
    rng
        Source of the weights.

    Returns
    -------
    weights, offsets
        Shapes (n_muscles, n_excitatory) and (n_muscles,). Over the reaches every muscle has a
        standard deviation of 1 and a minimum of 0, like a rectified EMG.
    """
    weights = rng.standard_normal((n_muscles, rates.shape[-1]))
    muscles = rates @ weights.T
    weights /= muscles.std(axis=(0, 1))[:, np.newaxis]
    return weights, -(rates @ weights.T).min(axis=(0, 1))
