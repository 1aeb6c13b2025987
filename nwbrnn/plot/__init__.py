"""Figures of a fit for papers and notebooks: each function draws on matplotlib axes and returns them.

Recorded lines are solid and predicted lines dashed; both are averages over the test trials of a condition.
The colours are distinguishable with every kind of colour vision. Use the functions as ``nwbrnn.plot``, which
imports matplotlib on first use.
"""

from nwbrnn.plot.fit import learning_curve, outputs, rates, spectrum, trajectories
from nwbrnn.plot.forecast import forecast
from nwbrnn.plot.mechanism import fixed_points
from nwbrnn.plot.style import save
from nwbrnn.plot.sweep import sampling_curve

__all__ = [
    "fixed_points",
    "forecast",
    "learning_curve",
    "outputs",
    "rates",
    "sampling_curve",
    "save",
    "spectrum",
    "trajectories",
]
