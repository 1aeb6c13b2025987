"""How well a network that observes neurons predicts some bins ahead."""

import numpy as np
from matplotlib.axes import Axes

from nwbrnn.evaluation import score_horizons
from nwbrnn.plot.style import COLOURS, GREY, prepare_axes
from nwbrnn.prediction import forget_observer, predict
from nwbrnn.result import FitResult

NAMES = {
    "single-trial output R2": "outputs",
    "single-trial unsampled neurons R2": "unsampled neurons (median)",
}


def forecast(result: FitResult, *, horizon: int = 10, ax: Axes | None = None) -> Axes:
    """Draw the R² of single test trials against how far ahead they are predicted.

    Dashed lines are the network without neurons, which the forecasts approach.

    Parameters
    ----------
    result
        A fit that observes neurons.
    horizon
        Largest number of bins ahead.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If the fit observes no neurons.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example)
    >>> result = nwbrnn.fit(ds, observe="sampled", sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.forecast(result, horizon=3)
    """
    scores = score_horizons(result.recorded, result.forecast(horizon))
    blind = predict(result.recorded, *forget_observer(result.weights, result.config))
    floor = score_horizons(result.recorded, [blind])
    ax = prepare_axes(ax)
    ahead = 1000 * result.recorded.attrs["bin_size"] * np.arange(horizon + 1)
    for colour, (name, label) in zip(COLOURS, NAMES.items(), strict=False):
        if np.isfinite(scores[name]).any():
            ax.plot(ahead, scores[name], "o-", color=colour, ms=3, lw=1.2, label=label)
            ax.axhline(floor[name][0], color=colour, ls="--", lw=1.0)
    ax.plot([], [], "--", color=GREY, lw=1.0, label="without neurons")
    ax.set_xlabel("time ahead [ms]")
    ax.set_ylabel("R² of single trials")
    ax.legend(frameon=False, fontsize=8)
    return ax
