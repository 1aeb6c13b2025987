"""Outputs have the unit and the range of the file wherever they are met: no surface shows scaled values."""

import json
import re
import shutil

import h5py
import numpy as np
import pynwb
import pytest
from matplotlib.figure import Figure

import nwbrnn
from nwbrnn.preprocessing import average_tests

pytestmark = pytest.mark.slow

UNIT = "mV"
GAINS = (0.002, 30.0, 4000.0)  # three muscles of very different size


@pytest.fixture(scope="module")
def paths(recording, tmp_path_factory):
    """A recording whose muscles differ in size by these gains, and where its fit is to be."""
    folder = tmp_path_factory.mktemp("units")
    source, fitted = folder / "source.nwb", folder / "fit.nwb"
    shutil.copy(recording.path, source)
    with h5py.File(source, "a") as file:
        data = file["acquisition/EMG/data"]
        data[:] = data[:] * np.array(GAINS)
        assert data.attrs["unit"] == UNIT
    return source, fitted


@pytest.fixture(scope="module")
def ds(paths):
    return nwbrnn.read_nwb(paths[0], bin_size=0.04)


@pytest.fixture(scope="module")
def result(ds, paths):
    result = nwbrnn.fit(ds, sampled=4, min_rate=0.0, hidden=30, epochs=40)
    nwbrnn.write_fit(result, paths[0], paths[1])
    return result


def measure(values):
    """Return the standard deviation of each output over all samples that there are."""
    return np.nanstd(np.asarray(values, dtype=float).reshape(-1, len(GAINS)), axis=0)


def test_sizes_of_the_muscles_are_those_of_the_file(ds, recording):
    sizes = measure(ds["outputs"])
    assert ds["outputs"].attrs["units"] == UNIT
    np.testing.assert_allclose(sizes / np.array(GAINS), measure(recording.emg), rtol=0.9)
    assert (np.diff(np.log(sizes)) > 3).all()


@pytest.mark.parametrize("name", ["recorded", "predicted"])
def test_result_and_file_have_them(name, ds, result, paths):
    stored = nwbrnn.read_fit(paths[1])
    with pynwb.NWBHDF5IO(str(paths[1]), "r") as io:
        series = io.read().processing["nwbrnn"][f"{name}_outputs"]
        assert series.unit == UNIT
        in_file = series.data[:] * series.conversion
    found = result.to_pynapple()["outputs" if name == "recorded" else "predicted_outputs"]
    for values in (getattr(result, name)["outputs"], getattr(stored, name)["outputs"], in_file, found.d):
        np.testing.assert_allclose(measure(values), measure(ds["outputs"]), rtol=0.25)
    for one in (result, stored):
        assert getattr(one, name)["outputs"].attrs["units"] == UNIT
    np.testing.assert_array_equal(getattr(result, name)["outputs"], getattr(stored, name)["outputs"])


def test_only_outliers_differ_from_what_was_read(ds, result):
    same = result.recorded["outputs"].values
    limit = 3 * result.recorded["output_scale"].values
    read = ds["outputs"].sel(trial=result.recorded["trial"]).values
    np.testing.assert_array_equal(same, np.clip(read, -limit, limit).astype(read.dtype))


def test_plots_and_the_page_have_them(result, paths, run_cli):
    averages = [one["outputs"].values for one in average_tests(result.recorded, result.predicted)]
    for channel, name in enumerate(result.recorded["output"].values.tolist()):
        ax = nwbrnn.plot.outputs(result, name, ax=Figure().add_subplot())
        assert f"[{UNIT}]" in ax.get_ylabel()
        drawn = np.concatenate([line.get_ydata() for line in ax.lines if len(line.get_ydata()) > 2])
        shown = [values[..., channel] for values in averages]
        assert np.ptp(drawn) == pytest.approx(max(map(np.max, shown)) - min(map(np.min, shown)), rel=0.2)
    page = paths[1].with_name("report.html")
    assert run_cli("report", paths[1], "-o", page).code == 0
    pattern = r'<script type="application/json" id="data">(.*?)</script>'
    data = json.loads(re.search(pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL)[1])
    for channel, one in enumerate(data["outputs"]):
        assert one["unit"] == UNIT
        for course, values in zip((one["recorded"], one["network"]), averages, strict=True):
            assert np.ptp(course) == pytest.approx(np.ptp(values[..., channel]), rel=0.02)


def test_perturbations_have_them(result):
    unit = int(result.recorded["unit"].values[0])
    pushed = result.perturb({unit: 1.0}, size=2.0, at=0.1)
    assert pushed["outputs"].attrs["units"] == UNIT
    np.testing.assert_allclose(measure(pushed["outputs"]), measure(result.predicted["outputs"]), rtol=0.5)


def test_scores_do_not_depend_on_the_unit(recording, result):
    """The same muscles without gains: every score is the same."""
    plain = nwbrnn.fit(
        nwbrnn.read_nwb(recording.path, bin_size=0.04), sampled=4, min_rate=0.0, hidden=30, epochs=40
    )
    for one, other in zip(plain.scores.summary, result.scores.summary, strict=True):
        assert one.value == pytest.approx(other.value, abs=0.02, nan_ok=True), one.name
    assessed = [nwbrnn.assess(r.recorded, r.predicted, n_resamples=20) for r in (plain, result)]
    for one, other in zip(*assessed, strict=True):
        for name in ("value", "noise_ceiling", "known_average", "high"):
            first, second = getattr(one, name), getattr(other, name)
            assert first == pytest.approx(second, abs=0.05, rel=0.05, nan_ok=True), (one.name, name)


def test_a_gain_of_a_power_of_two_changes_no_weight(ds):
    """Such a gain is exact in floating point, so the networks have to be the same bit by bit."""
    louder = ds.assign(outputs=ds["outputs"] * np.float32(2**10))
    louder["outputs"].attrs |= ds["outputs"].attrs
    plain, loud = (nwbrnn.fit(one, sampled=4, min_rate=0.0, hidden=20, epochs=5) for one in (ds, louder))
    for name, weights in plain.weights.items():
        np.testing.assert_array_equal(weights, loud.weights[name], err_msg=name)
    np.testing.assert_array_equal(plain.predicted["outputs"] * 2**10, loud.predicted["outputs"])
