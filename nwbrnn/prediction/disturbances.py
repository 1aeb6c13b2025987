"""How networks, and the circuits that they are compared with, are disturbed to see how robust they are."""

LEVELS = (0.1, 0.2, 0.4)
INPUT_LEVELS = (0.25, 0.5, 1.0)
KINDS = {"initial state": LEVELS, "inputs": INPUT_LEVELS, "kick": LEVELS}
"""Levels ε of each kind of disturbance; see :func:`nwbrnn.training.probe`."""
