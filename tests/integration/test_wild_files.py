"""read_nwb and doctor on layouts that nobody agreed on: rounded clocks, codes, versions of muscles."""

import json

import layouts
import numpy as np
import pytest
from layouts import average, compute_envelope, create_series, create_values

import nwbrnn
from nwbrnn.readers.doctor import diagnose
from tests.messages import assert_names

pytestmark = pytest.mark.slow

N = 24
DURATION = 50.0
START = 1.0 + 2.0 * np.arange(N)
STOP = START + 1.7
GO = START + 0.5137
DIRECTION = np.tile([0.0, 90.0, 180.0, 270.0], N // 4)
WINDOW = (-0.4, 1.0)
SPIKES = [np.sort(np.random.default_rng(u).uniform(0, DURATION, 500)) for u in range(4)]


def create_envelope(rate):
    """Return an envelope of two muscles and the start of each sample [s]."""
    stamps = np.arange(round(DURATION * rate)) / rate
    return create_values(np.random.default_rng(8), stamps, 2), stamps


def create_raw(rate):
    """Return raw EMG of two muscles and the start of each sample [s]."""
    values, stamps = create_envelope(rate)
    return values * np.random.default_rng(5).standard_normal(values.shape), stamps


def create_file(*, outputs=None, trials=None, spikes=SPIKES, shift=0.0):
    """Return a session of reaches; ``trials`` are columns beside or, if ``None``, instead of its own."""
    nwbfile = layouts.create_file()
    if outputs is None:
        outputs = [create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)]
    for one in outputs:
        nwbfile.add_acquisition(one)
    if spikes is not None:
        layouts.add_units(nwbfile, [train + shift for train in spikes])
    columns = {"go_cue_time": GO + shift, "target_dir": DIRECTION} | (trials or {})
    columns = {name: values for name, values in columns.items() if values is not None}
    for name in columns:
        nwbfile.add_trial_column(name, name)
    for i in range(N):
        row = {name: values[i] for name, values in columns.items()}
        nwbfile.add_trial(start_time=START[i] + shift, stop_time=STOP[i] + shift, **row)
    return nwbfile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.nwb"


@pytest.fixture
def read(path):
    """Return a function that writes a file and reads it."""

    def make(nwbfile, **settings):
        layouts.write(nwbfile, path)
        return nwbrnn.read_nwb(path, **({"window": WINDOW} | settings))

    return make


def get_edges(*, shift=0.0, bin_size=0.02):
    n_bins = round((WINDOW[1] - WINDOW[0]) / bin_size)
    return (GO + shift)[:, np.newaxis] + WINDOW[0] + np.arange(n_bins + 1) * bin_size


def get_choices(ds, role):
    return [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]


def get_picked(ds, role):
    (choice,) = get_choices(ds, role)
    return choice["picked"]


def find_rules(path, **settings):
    return {finding.rule: finding for finding in diagnose(path, **settings)}


# clocks whose stamps are rounded


@pytest.mark.parametrize(
    ("rate", "shift", "kind"),
    [
        (2000.0, 3000.0, "float32"),  # steps of 2 and 3 roundings
        (1000.0, 9000.0, "float32"),  # a step in 41 has 2 roundings
        (1000.0, 20000.0, "float32"),  # two samples share a stamp
        (2000.0, 20000.0, "float32"),  # four do
        (2000.0, 0.0, "ms"),
        (1017.25, 0.0, "ms"),  # a few share a stamp
        (900.0, 0.0, "ms"),  # a step in nine has 2 ms
    ],
)
def test_raw_emg_of_rounded_stamps_has_the_envelope_of_its_rate(read, path, rate, shift, kind):
    raw, stamps = create_raw(rate)
    stored = (stamps + shift).astype("float32") if kind == "float32" else np.round(stamps + shift, 3)
    ds = read(create_file(outputs=[create_series("EMG", raw, unit="mV", timestamps=stored)], shift=shift))
    centres = stamps + 0.5 / rate
    expected = average(compute_envelope(raw, rate), centres, get_edges(), bin_size=0.02)
    assert ds["mask"].values.all()
    # samples may be in the next bin, which costs a hundredth; half the rate would cost more than a tenth
    np.testing.assert_allclose(ds["outputs"], expected, atol=0.02 * expected.max())
    rules = find_rules(path)
    rounding = np.spacing(np.float32(shift + DURATION)) if kind == "float32" else 1e-3
    assert_names(rules["timestamps_rounded"].problem, f"{rounding:.2g}")
    assert "timestamps_gaps" not in rules
    assert not rules["timestamps_rounded"].biases


def test_lost_samples_are_no_rounding(read, path):
    raw, stamps = create_raw(1000.0)
    kept = np.random.default_rng(2).random(len(stamps)) > 0.02
    kept[1:] |= ~kept[:-1]  # one at a time, as if steps of 1 and 2 ms were the rounding of 1.02 ms
    series = create_series("EMG", raw[kept], unit="mV", timestamps=np.round(stamps[kept], 3))
    layouts.write(create_file(outputs=[series]), path)
    rules = find_rules(path, emg="envelope")
    assert_names(rules["timestamps_gaps"].problem, int((~kept).sum()))
    assert "timestamps_rounded" not in rules
