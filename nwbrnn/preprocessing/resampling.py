"""Filters before samples are averaged on wider bins."""

import numpy as np
import scipy.ndimage
import scipy.signal
from numpy.typing import NDArray

CUTOFF = 0.8  # of the highest frequency that the bins can hold; the usual choice in decimation
RINGING = 8  # bins around a step in which the filter overshoots
SETTLED = 32  # bins after which the filter has forgotten its input to one part in 10^13


def suppress_aliases(
    values: NDArray[np.floating], *, sampling_rate: float, bin_size: float, magnitude: bool = False
) -> NDArray[np.floating]:
    """Remove what is too fast for the bins, without phase shift: a 4th-order Butterworth low-pass, both ways.

    Parameters
    ----------
    values
        Signal, time first, shape (n_samples, n_channels).
    sampling_rate
        Samples per second [Hz].
    bin_size
        Width of the bins to come [s]; at least two samples.
    magnitude
        Whether the signal is a magnitude, such as an envelope: the filter overshoots beside steps, and where
        the signal is not negative for some bins around, the result is clipped at 0.

    Returns
    -------
    ndarray
        Same shape and unit.
    """
    low = scipy.signal.butter(4, CUTOFF / (2 * bin_size), "lowpass", fs=sampling_rate, output="sos")
    filtered = scipy.signal.sosfiltfilt(low, values, axis=0, padlen=min(len(values) - 1, 3 * SETTLED))
    if not magnitude:
        return filtered
    around = 2 * round(RINGING * bin_size * sampling_rate) + 1
    lowest = scipy.ndimage.minimum_filter1d(values, around, axis=0, mode="nearest")
    return np.where(lowest >= 0, np.maximum(filtered, 0.0), filtered)
