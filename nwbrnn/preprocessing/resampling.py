"""Filter samples before they are averaged in wider bins."""

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

CUTOFF = 0.8  # of the highest frequency that the bins can hold; the usual choice in decimation
RINGING = 8  # bins around a step in which the filter overshoots
SETTLED = 32  # bins after which the influence of an input is below one part in 10^13


def suppress_aliases(
    values: NDArray[np.floating], *, sampling_rate: float, bin_size: float, magnitude: bool = False
) -> NDArray[np.floating]:
    """Remove frequencies too high for the bins with a 4th-order Butterworth low-pass without phase shift.

    Parameters
    ----------
    values
        Signal, time first, shape (n_samples, n_channels).
    sampling_rate
        Sampling rate [Hz].
    bin_size
        Width of the later bins [s]; at least two samples.
    magnitude
        Whether the signal is a magnitude, such as an envelope. The filter overshoots at steps; if the signal
        is not negative in the surrounding bins, the result is clipped at 0.

    Returns
    -------
    ndarray
        The filtered signal, with the same shape and unit.
    """
    low = scipy.signal.butter(4, CUTOFF / (2 * bin_size), "lowpass", fs=sampling_rate, output="sos")
    filtered = scipy.signal.sosfiltfilt(low, values, axis=0, padlen=min(len(values) - 1, 3 * SETTLED))
    if not magnitude:
        return filtered
    around = 2 * round(RINGING * bin_size * sampling_rate) + 1
    lowest = scipy.ndimage.minimum_filter1d(values, around, axis=0, mode="nearest")
    return np.where(lowest >= 0, np.maximum(filtered, 0.0), filtered)
