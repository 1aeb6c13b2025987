"""The data of a fit in the layout of lfads-torch."""

import h5py
import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import ExportError, MissingDataError, OutputExistsError
from nwbrnn.teacher import TeacherConfig, simulate_teacher
from tests.messages import names

TEACHER = {"n_neurons": 30, "n_directions": 4, "n_trials": 6, "preparation": 0.1, "movement": 0.2}
SETTINGS = {"hidden": 20, "sampled": 8, "min_rate": 0, "method": "least_squares"}


@pytest.fixture(scope="module")
def ds():
    return simulate_teacher(TeacherConfig(**TEACHER))


@pytest.fixture(scope="module")
def result(ds):
    return nwbrnn.fit(ds, **SETTINGS)


def load(path):
    """Return what ``BasicDataModule.setup`` of lfads-torch reads."""
    with h5py.File(path, "r") as file:
        return {name: values[()] for name, values in file.items()}


def test_the_arrays_are_the_counts_of_the_trials_and_units_of_the_fit(ds, result, tmp_path):
    nwbrnn.write_lfads(result.recorded, tmp_path / "lfads.h5", inputs=True)
    data = load(tmp_path / "lfads.h5")
    sizes = {"train": 4 * 3, "valid": 4, "test": 4 * 2}
    assert sum(sizes.values()) == ds.sizes["trial"]
    recorded = result.recorded
    sampled = recorded["unit"].values[recorded["sampled"].values]
    assert data["unit"][:8].tolist() == sampled.tolist()
    assert sorted(data["unit"].tolist()) == ds["unit"].values.tolist()
    assert data["sampled"].tolist() == [True] * 8 + [False] * 22
    assert [name.decode() for name in data["output"]] == ds["output"].values.tolist()
    split = {"train": "train", "valid": "validation", "test": "test"}
    for prefix, n_trials in sizes.items():
        trials = data[f"{prefix}_trial"]
        assert len(trials) == n_trials
        assert set(recorded["split"].sel(trial=trials).values.tolist()) == {split[prefix]}
        known = ds.sel(trial=trials, unit=data["unit"])
        np.testing.assert_array_equal(data[f"{prefix}_recon_data"], known["spike_counts"])
        np.testing.assert_array_equal(data[f"{prefix}_encod_data"], known["spike_counts"][..., :8])
        np.testing.assert_array_equal(data[f"{prefix}_truth"], known["rates"])
        np.testing.assert_array_equal(data[f"{prefix}_ext_input"], known["inputs"].astype("float32"))
        np.testing.assert_array_equal(
            data[f"{prefix}_behavior"], recorded["outputs"].sel(trial=trials).astype("float32")
        )
    # lfads-torch divides the truth by the factor, and compares it with counts in a bin
    counts, rates = (data[f"train_{name}"].mean() for name in ("recon_data", "truth"))
    assert rates / data["conversion_factor"] == pytest.approx(counts, rel=0.05)


def test_a_recording_has_no_truth_and_inputs_only_if_asked_for(result, tmp_path):
    attrs = {name: value for name, value in result.recorded.attrs.items() if name != "teacher"}
    recorded = result.recorded.copy()
    recorded.attrs = attrs
    nwbrnn.write_lfads(recorded, tmp_path / "lfads.h5")
    keys = set(load(tmp_path / "lfads.h5"))
    assert not {"train_truth", "conversion_factor", "train_ext_input"} & keys
    # of a simulated circuit whose spikes were smoothed, too
    smoothed = result.recorded.assign_attrs(read_config='{"rates": "spikes"}')
    nwbrnn.write_lfads(smoothed, tmp_path / "smoothed.h5")
    assert "train_truth" not in load(tmp_path / "smoothed.h5")


def test_without_counts_it_holds_rates(ds, tmp_path):
    result = nwbrnn.fit(ds.drop_vars("spike_counts"), **SETTINGS)
    nwbrnn.write_lfads(result.recorded, tmp_path / "lfads.h5")
    data = load(tmp_path / "lfads.h5")
    np.testing.assert_array_equal(data["train_recon_data"], data["train_truth"])
    assert data["conversion_factor"] == 1


def test_outputs_that_were_held_out_are_not_among_those_to_train_on(ds, tmp_path):
    result = nwbrnn.fit(ds, **SETTINGS, held_out_conditions=["0"], held_out="outputs")
    nwbrnn.write_lfads(result.recorded, tmp_path / "lfads.h5")
    data = load(tmp_path / "lfads.h5")
    hidden = ds["condition"].sel(trial=data["train_trial"]).values == "0"
    assert hidden.any()
    np.testing.assert_array_equal(np.isnan(data["train_behavior"]).all(axis=(1, 2)), hidden)
    np.testing.assert_array_equal(np.isnan(data["train_behavior"]).any(axis=(1, 2)), hidden)


def test_what_the_layout_cannot_hold_is_refused_by_name(ds, result, tmp_path):
    path = tmp_path / "lfads.h5"
    recorded = result.recorded
    cases = {
        "split, sampled": ds,
        "validation": recorded.isel(trial=recorded["split"].values != "validation"),
        "train": recorded.isel(trial=recorded["split"].values != "train"),
        "sampled": recorded.assign_coords(sampled=("unit", np.zeros(30, dtype=bool))),
    }
    for told, case in cases.items():
        with pytest.raises(MissingDataError, match=told):
            nwbrnn.write_lfads(case, path)
    mask = np.ones(recorded["mask"].shape, dtype=bool)
    mask[3, -2:] = False
    with pytest.raises(MissingDataError, match=names("mask", "3", "window")):
        nwbrnn.write_lfads(recorded.assign(mask=(("trial", "time"), mask)), path)
    assert not path.exists()
    with pytest.raises(ExportError, match=names("lfads.nwb", ".h5")):
        nwbrnn.write_lfads(recorded, tmp_path / "lfads.nwb")
    nwbrnn.write_lfads(recorded, path)
    with pytest.raises(OutputExistsError, match=names(path)):
        nwbrnn.write_lfads(recorded, path)


@pytest.mark.slow
@pytest.mark.cover
def test_the_command_writes_what_the_function_writes(ds, result, run_cli, tmp_path):
    source, fit = tmp_path / "teacher.nwb", tmp_path / "fit.nwb"
    nwbrnn.write_teacher(ds, source)
    nwbrnn.write_fit(result, source, fit)
    finished = run_cli("export", fit, "--to", "lfads", "-o", tmp_path / "lfads.h5")
    assert (finished.code, finished.err) == (0, "")
    nwbrnn.write_lfads(result.recorded, tmp_path / "again.h5")
    mine, theirs = load(tmp_path / "lfads.h5"), load(tmp_path / "again.h5")
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    for line, told in (
        (("-o", tmp_path / "other.h5", "--as", "mine"), "--as"),
        (("-o", tmp_path / "other.h5", "--source", source), "--source"),
        ((), "--output"),
        (("-o", tmp_path / "lfads.h5"), "lfads.h5"),
        (("-o", tmp_path / "other.nwb"), ".h5"),
    ):
        refused = run_cli("export", fit, "--to", "lfads", *line)
        assert refused.code == 2
        assert told in refused.err
