"""Figures of a fit for papers and notebooks: each function draws on matplotlib axes and returns them.

Recorded lines are solid, those of the student dashed; both are averages over the test trials of a condition.
Colours can be told apart with every kind of colour vision. Reached as ``nwbrnn.plot``; matplotlib is imported
only then.
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
