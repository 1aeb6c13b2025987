"""Circuits with four mechanisms, which generate the activity that a network should reproduce.

To add one, write a function that builds the weights and add a :class:`Mechanism` to ``MECHANISMS``. Settings,
command line, simulation, ``nwbrnn reproduce`` and the documentation use this list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nwbrnn.teacher.soc import TAU, Array, build_circuit


@dataclass(frozen=True)
class Mechanism:
    """A kind of circuit.

    Attributes
    ----------
    meaning
        A short description.
    build
        Function from a number of neurons and a seed to the weights, shape (n_neurons, n_neurons).
    has_cell_types
        Whether neurons are excitatory or inhibitory: the first half and the second.
    """

    meaning: str
    build: Callable[[int, int], Array]
    has_cell_types: bool = False


ROTATION = 2 * np.pi * 1.5 * TAU  # b: activity rotates at b / (2π τ) = 1.5 Hz; our choice
DECAY = 0.6  # a: activity decays with τ / (1 - a) = 0.5 s; our choice
N_STAGES = 8  # of a chain; our choice
FORWARD = 1.7  # weight from one stage to the next; our choice
BUMP = 2.0  # weight of the ring's first harmonic; above 1, a bump sustains itself (Ben-Yishai et al. 1995)


def build_low_rank(n_neurons: int, seed: int) -> Array:
    """Return W = M K Mᵀ of rank 2 with K = [[a, -b], [b, a]]: a plane in which activity rotates and decays.

    M has random orthonormal columns. The eigenvalues of W are a ± ib and 0.

    References
    ----------
    .. [1] Mastrogiuseppe & Ostojic 2018, Neuron, doi:10.1016/j.neuron.2018.07.003.
    """
    plane = _create_basis(n_neurons, 2, seed)
    return np.asarray(plane @ np.array([[DECAY, -ROTATION], [ROTATION, DECAY]]) @ plane.T)


def build_feedforward(n_neurons: int, seed: int) -> Array:
    """Return W = c Σ u_{k+1} u_kᵀ over two chains of orthonormal patterns: functionally feed-forward.

    Every neuron is connected with every other, but activity passes from pattern to pattern and never returns.
    All eigenvalues are 0, and transients are due to non-normality.

    References
    ----------
    .. [1] Goldman 2009, Neuron, doi:10.1016/j.neuron.2008.12.012.
    """
    n_stages = max(2, min(N_STAGES, n_neurons // 2))
    patterns = _create_basis(n_neurons, 2 * n_stages, seed)
    chains = patterns[:, :n_stages], patterns[:, n_stages:]
    return np.asarray(FORWARD * sum(chain[:, 1:] @ chain[:, :-1].T for chain in chains))


def build_ring(n_neurons: int, seed: int) -> Array:
    """Return W_ij = (2 J / N) cos(φ_i - φ_j) of neurons with preferred directions φ on a ring.

    If J is above 1, the network sustains a bump of activity at any direction, so it has a ring of fixed
    points. The seed shuffles the neurons.

    References
    ----------
    .. [1] Ben-Yishai, Bar-Or & Sompolinsky 1995, PNAS, doi:10.1073/pnas.92.9.3844.
    """
    preferred = 2 * np.pi * np.random.default_rng(seed).permutation(n_neurons) / n_neurons
    return np.asarray(2 * BUMP / n_neurons * np.cos(preferred[:, np.newaxis] - preferred))


def _create_basis(n_neurons: int, n_patterns: int, seed: int) -> Array:
    """Return random orthonormal patterns, shape (n_neurons, n_patterns)."""
    random = np.random.default_rng(seed).standard_normal((n_neurons, n_patterns))
    return np.asarray(np.linalg.qr(random)[0])


MECHANISMS = {
    "soc": Mechanism(
        "stability-optimized circuit: excitation balanced by tuned inhibition (Hennequin et al. 2014)",
        lambda n_neurons, seed: build_circuit(n_neurons, seed=seed).weights,
        has_cell_types=True,
    ),
    "low_rank": Mechanism("rank two: a plane in which activity turns and decays", build_low_rank),
    "feedforward": Mechanism(
        "functionally feed-forward: each pattern passes its activity on to the next", build_feedforward
    ),
    "ring": Mechanism("ring attractor: a bump of activity that stays at any direction", build_ring),
}
"""By the value of the setting ``teacher``."""
