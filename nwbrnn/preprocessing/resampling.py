"""Filters before samples are averaged on wider bins."""

import numpy as np
import scipy.signal
from numpy.typing import NDArray

CUTOFF = 0.8  # of the highest frequency that the bins can hold; the usual choice in decimation
SETTLED = 32  # bins after which the filter has forgotten its input to one part in 10^13


def suppress_aliases(
    values: NDArray[np.floating], *, sampling_rate: float, bin_size: float
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

    Returns
    -------
    ndarray
        Same shape and unit. A signal that is nowhere negative stays so (clipped at 0).
    """
    low = scipy.signal.butter(4, CUTOFF / (2 * bin_size), "lowpass", fs=sampling_rate, output="sos")
    filtered = scipy.signal.sosfiltfilt(low, values, axis=0, padlen=min(len(values) - 1, 3 * SETTLED))
    return np.maximum(filtered, 0.0) if values.min(initial=0.0) >= 0 else filtered
