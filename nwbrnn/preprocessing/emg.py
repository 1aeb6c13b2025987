"""Envelopes of raw EMG, and the scale of outputs."""

from dataclasses import dataclass, replace

import numpy as np
import scipy  # loads its parts on first use
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.errors import ConfigError
from nwbrnn.schema import OUTPUT
from nwbrnn.text import show_count

Array = NDArray[np.floating]

SMALLEST = 1e-30
"""The smallest scale of an output; smaller ones would not have all digits in float32."""
RESOLVED = 1e-4
"""Range of an output, relative to its scale, below which float32 leaves too few digits to learn from."""


@dataclass(frozen=True)
class EnvelopeFilter:
    """The filters that turn raw EMG into its envelope.

    Attributes
    ----------
    high_pass, low_pass
        Corner frequencies of 4th- and 2nd-order Butterworth filters [Hz].
    notch
        Frequencies that are removed first, such as those of the power line and its harmonics [Hz].
    """

    high_pass: float = 50.0
    low_pass: float = 10.0
    notch: tuple[float, ...] = ()

    @property
    def settled(self) -> float:
        """Time after which the influence of an input is below rounding error [s]."""
        decays = [
            2 * np.pi * self.low_pass * np.sin(np.pi / 4),  # of the slowest pole of each [1/s]
            2 * np.pi * self.high_pass * np.sin(np.pi / 8),
            *(np.pi * frequency / NOTCH_QUALITY for frequency in self.notch),
        ]
        return float(FORGOTTEN / min(decays))


NOTCH_QUALITY = 30.0
"""Frequency of a notch divided by its width, which is 2 Hz at 60 Hz."""
FORGOTTEN = 44.4
"""Number of time constants until exp(-x) is lost in rounding, even next to much smaller values."""
ENVELOPES = {
    "miller": EnvelopeFilter(),
    "falcon": EnvelopeFilter(high_pass=65.0, notch=(60.0, 180.0, 200.0, 300.0, 400.0)),
}
"""Filters by the value of ``emg_filter``: of the Miller laboratory, and of FALCON's M1 data [1]_.

.. [1] Karpowicz et al. 2024, NeurIPS Datasets and Benchmarks, doi:10.1101/2024.09.15.613126.
"""


def choose_envelope(config: ReadConfig) -> EnvelopeFilter:
    """Return the filters that the settings request: those of a laboratory, with changes to them."""
    changes = {"high_pass": config.emg_high_pass, "low_pass": config.emg_low_pass, "notch": config.emg_notch}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(ENVELOPES[config.emg_filter], **given)  # type: ignore[arg-type]


def compute_envelope(
    emg: Array, *, sampling_rate: float, filters: EnvelopeFilter = ENVELOPES["miller"]
) -> Array:
    """Return the envelope of raw EMG: notch, high-pass, rectify, low-pass, all without phase shift.

    Parameters
    ----------
    emg
        Raw signal, time first, shape (n_samples, n_muscles).
    sampling_rate
        Sampling rate [Hz].
    filters
        Frequencies of the filters. Notches at or above half the sampling rate are left out, as the signal
        has no such frequencies.

    Returns
    -------
    ndarray
        The envelope, with the same shape and unit. It is clipped at 0, since the low-pass can undershoot.

    Raises
    ------
    ConfigError
        If the signal is too short, or sampled too slowly for the high-pass.
    """
    high_pass, low_pass = filters.high_pass, filters.low_pass
    if sampling_rate <= 2 * high_pass:
        raise ConfigError(
            f"emg_high_pass: expected less than half the sampling rate of {sampling_rate:g} Hz, "
            f"but got {high_pass:g} Hz; this is not raw EMG, read it as an envelope"
        )
    if len(emg) < sampling_rate / low_pass:
        raise ConfigError(
            f"emg: expected at least {1 / low_pass:g} s of signal for emg_low_pass {low_pass:g} Hz, but got "
            f"{show_count(len(emg), 'sample')} at {sampling_rate:g} Hz; use longer trials or a higher "
            "emg_low_pass"
        )
    notches = [f for f in filters.notch if f < sampling_rate / 2]
    for frequency in notches:
        sections = scipy.signal.tf2sos(*scipy.signal.iirnotch(frequency, NOTCH_QUALITY, fs=sampling_rate))
        emg = scipy.signal.sosfiltfilt(sections, emg, axis=0)
    high = scipy.signal.butter(4, high_pass, "highpass", fs=sampling_rate, output="sos")
    low = scipy.signal.butter(2, low_pass, "lowpass", fs=sampling_rate, output="sos")
    rectified = np.abs(scipy.signal.sosfiltfilt(high, emg, axis=0))
    return np.maximum(scipy.signal.sosfiltfilt(low, rectified, axis=0), 0.0)


def clip_outputs(ds: xr.Dataset, *, percentile: float, clip: float) -> xr.Dataset:
    """Measure the scale of each output in the training trials, and clip outliers.

    Parameters
    ----------
    ds
        A Dataset with ``split``.
    percentile
        Percentile of the absolute values of an output, which is its scale; 95 as in FALCON's EMG.
    clip
        Values beyond ± ``clip`` times the scale are set to this limit.

    Returns
    -------
    xarray.Dataset
        ``outputs`` in their recorded unit, with the coordinate ``output_scale`` in the same unit.

    Raises
    ------
    ConfigError
        If an output is 0, or not observed, throughout the training trials, or no output varies there.
    """
    train = (ds["split"].values == "train")[:, np.newaxis] & ds["mask"].values
    values = ds["outputs"].values[train]
    unseen = ds[OUTPUT].values[np.isnan(values).all(axis=0)]
    if unseen.size:
        raise ConfigError(
            f"outputs: expected values in some training trials, but {', '.join(unseen)} was not observed in "
            "any; leave it out with the outputs setting, or train on other trials"
        )
    scale = np.nanpercentile(np.abs(values), percentile, axis=0)
    dead = ds[OUTPUT].values[~(scale > SMALLEST)]
    if dead.size:
        raise ConfigError(
            f"outputs: expected values other than 0 to scale by, but nearly all training bins of "
            f"{', '.join(dead)} are 0, or below {SMALLEST:g}; leave these out with the outputs setting"
        )
    spread = (np.nanmax(values, axis=0) - np.nanmin(values, axis=0)) / scale
    if (spread < RESOLVED).all():
        raise ConfigError(
            f"outputs: expected values that vary by at least {RESOLVED:g} of their size in the training "
            f"trials, but the largest range of {', '.join(ds[OUTPUT].values)} is {spread.max():.1g} of their "
            "size, so there is nothing to learn; choose other outputs, or subtract their offset"
        )
    outputs = ds["outputs"].copy(data=ds["outputs"].values.clip(-clip * scale, clip * scale))
    return ds.assign(outputs=outputs).assign_coords(output_scale=(OUTPUT, scale.astype(np.float64)))


def normalize_outputs(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset whose outputs are divided by their scale, so that they can be compared and pooled.

    Parameters
    ----------
    ds
        A Dataset; it is returned unchanged if it has no ``output_scale``.

    Returns
    -------
    xarray.Dataset
        ``outputs`` [1], without ``output_scale``.

    Examples
    --------
    >>> ds = xr.Dataset({"outputs": (("trial", "time", "output"), [[[2.0, 30.0]]])})
    >>> normalize_outputs(ds.assign_coords(output_scale=("output", [2.0, 10.0])))["outputs"].values
    array([[[1., 3.]]])
    """
    if "output_scale" not in ds.coords:
        return ds
    values = ds["outputs"].values / ds["output_scale"].values
    outputs = (ds["outputs"].dims, values.astype(ds["outputs"].dtype), {"units": "1"})
    return ds.assign(outputs=outputs).drop_vars("output_scale")
