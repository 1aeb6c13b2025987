"""Fits and simulated circuits as NWB files, there and back."""

import errno
import hashlib
import os
import warnings

import numpy as np
import pynwb
import pytest

import nwbrnn
from nwbrnn.errors import ExportError, OutputExistsError
from tests.messages import names

pytestmark = pytest.mark.slow

READ = {
    "recording": {},
    "overlap": {"window": (-1.5, 1.5), "bin_size": 0.04},
    "lag": {"bin_size": 0.04},
    "held_out": {"bin_size": 0.04},
    "outputs_only": {"bin_size": 0.04},
    "observer": {"bin_size": 0.04},
    "partial": {"bin_size": 0.04},
    "teacher": {},
}
FIT = {
    "recording": {},
    "overlap": {},
    "lag": {"neural_lag": 0.08},
    "held_out": {"held_out_conditions": ("90",)},
    "outputs_only": {"dynamics_weight": 0.0},
    "observer": {"observe": "all", "sampled": 2},
    "partial": {"observe": "all", "sampled": 4, "min_rate": 0},
    "teacher": {"sampled": 10},
}


class Stored:
    """A fit, the source, the file it was written to, and the fit as read back."""

    def __init__(self, kind, source, folder):
        self.kind = kind
        self.source = source
        self.source_before = hashlib.sha256(source.read_bytes()).hexdigest()
        ds = nwbrnn.read_nwb(source, **READ[kind])
        epochs = 15 if kind in ("recording", "teacher") else 3
        self.result = nwbrnn.fit(ds, epochs=epochs, hidden=20, seed=1, **FIT[kind])
        self.path = folder / "fit.nwb"
        nwbrnn.write_fit(self.result, source, self.path)
        self.again = nwbrnn.read_fit(self.path)


@pytest.fixture(scope="module")
def make_stored(recording, teacher, make_recording, tmp_path_factory):
    made = {}
    lost = make_recording(obs_intervals=lambda unit: [[-2.0, 50.0 if unit < 3 else 100.0]])
    sources = {"teacher": teacher.path, "partial": lost.path}

    def make(kind):
        if kind not in made:
            source = sources.get(kind, recording.path)
            made[kind] = Stored(kind, source, tmp_path_factory.mktemp(kind))
        return made[kind]

    return make


@pytest.fixture(scope="module", params=list(READ))
def stored(request, make_stored):
    return make_stored(request.param)


@pytest.fixture
def opened(stored):
    with pynwb.NWBHDF5IO(str(stored.path), "r") as io:
        yield io.read()


def assert_same(first, second, *, inside):
    """Assert that Datasets are the same: variables inside the mask, coordinates and attributes."""
    assert set(first.data_vars) == set(second.data_vars)
    assert set(first.coords) == set(second.coords)
    for name, variable in first.data_vars.items():
        assert variable.dims == second[name].dims
        assert variable.dtype == second[name].dtype, name
        assert variable.attrs == second[name].attrs, name
        here = inside if variable.dims[:2] == ("trial", "time") else ...
        # outputs pass through their recorded unit, in float32
        tolerance = 1e-6 if name == "outputs" else 0.0
        values, others = variable.values[here], second[name].values[here]
        np.testing.assert_allclose(values, others, rtol=tolerance, atol=tolerance, err_msg=name)
        if variable.dtype.kind == "f" and here is inside:
            assert np.isnan(second[name].values[~inside]).all()
    for name, coord in first.coords.items():
        assert coord.dims == second[name].dims
        assert coord.attrs == second[name].attrs, name
        np.testing.assert_array_equal(coord.values, second[name].values, err_msg=name)


def test_recorded_dataset_comes_back(stored):
    recorded, again = stored.result.recorded, stored.again.recorded
    np.testing.assert_array_equal(again["mask"], recorded["mask"])
    assert_same(recorded, again, inside=recorded["mask"].values)
    assert again.attrs == recorded.attrs


def test_predictions_come_back(stored):
    predicted, again = stored.result.predicted, stored.again.predicted
    inside = stored.result.recorded["mask"].values
    for name in ("outputs", "rates", "hidden"):
        np.testing.assert_allclose(
            again[name].values[inside], predicted[name].values[inside], rtol=1e-6, atol=1e-6
        )


def test_network_read_back_predicts_the_same(stored):
    again = stored.again
    repeated = nwbrnn.predict(again.recorded, again.weights, again.config)
    inside = again.recorded["mask"].values
    for name, scale in (("outputs", 1.0), ("hidden", 1.0), ("rates", 100.0)):
        np.testing.assert_allclose(
            repeated[name].values[inside], again.predicted[name].values[inside], rtol=1e-6, atol=1e-6 * scale
        )


def test_weights_scores_history_and_settings_come_back(stored):
    result, again = stored.result, stored.again
    assert set(again.weights) == set(result.weights)
    for name, values in result.weights.items():
        np.testing.assert_array_equal(again.weights[name], values, err_msg=name)
    assert [(s.name, s.level) for s in again.scores.summary] == [
        (s.name, s.level) for s in result.scores.summary
    ]
    for field in ("value", "known_average"):
        np.testing.assert_array_equal(
            [getattr(s, field) for s in again.scores.summary],
            [getattr(s, field) for s in result.scores.summary],
        )
    for field in ("output_r2", "output_known_average", "unit_r2", "unit_known_average"):
        np.testing.assert_array_equal(getattr(again.scores, field), getattr(result.scores, field))
    assert set(again.history) == set(result.history)
    for name, values in result.history.items():
        np.testing.assert_array_equal(again.history[name], values, err_msg=name)
    assert again.config == result.config


def test_file_is_valid_nwb(stored):
    assert pynwb.validate(path=str(stored.path)) == []


def test_source_is_unchanged_and_nothing_is_left_over(stored):
    assert hashlib.sha256(stored.source.read_bytes()).hexdigest() == stored.source_before
    assert list(stored.path.parent.iterdir()) == [stored.path]


def test_session_and_subject_are_carried_over(stored, opened):
    with pynwb.NWBHDF5IO(str(stored.source), "r") as io:
        source = io.read()
        for name in ("session_start_time", "session_id", "institution", "lab", "experiment_description"):
            assert getattr(opened, name) == getattr(source, name)
        assert list(opened.experimenter) == list(source.experimenter)
        assert list(opened.keywords[:]) == list(source.keywords[:])
        for name in ("subject_id", "species", "sex", "age"):
            assert getattr(opened.subject, name) == getattr(source.subject, name)
        assert opened.identifier != source.identifier
        assert source.session_description in opened.session_description


def test_units_keep_their_spikes(stored, opened):
    with pynwb.NWBHDF5IO(str(stored.source), "r") as io:
        source = io.read().units
        rows = opened.units["source_row"].data[:]
        np.testing.assert_array_equal(rows, stored.result.recorded["unit"])
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(opened.units["spike_times"][i], source["spike_times"][int(row)])


def test_hidden_units_link_to_the_sampled_units(stored, opened):
    table = opened.processing["nwbrnn"]["hidden_units"]
    sampled = np.flatnonzero(stored.result.recorded["sampled"].values)
    assert len(table) == 20
    if stored.kind == "outputs_only":
        assert "recorded_unit" not in table.colnames
        return
    assert 0 < len(sampled) < 20
    column = table["recorded_unit"]
    assert column.target.table is opened.units
    ends = column.data[:]
    starts = np.concatenate([[0], ends[:-1]]).astype(int)
    links = [column.target.data[a:b].tolist() for a, b in zip(starts, ends, strict=True)]
    assert links == [[row] for row in sampled] + [[]] * (20 - len(sampled))


def test_predictions_lie_at_the_recorded_times(make_stored):
    """A recorded output in the fit file equals the source's sample at that session time."""
    stored = make_stored("recording")
    with pynwb.NWBHDF5IO(str(stored.path), "r") as io:
        series = io.read().processing["nwbrnn"]["recorded_outputs"]
        stamps, values = series.timestamps[:], series.data[:]
    with pynwb.NWBHDF5IO(str(stored.source), "r") as io:
        emg = io.read().acquisition["EMG"].data[:]
    limit = 3 * stored.result.recorded["output_scale"].values
    nearest = np.ceil((stamps - 0.01) / 0.02 - 0.5).astype(int)  # the one centre (k + 1/2) 20 ms in the bin
    np.testing.assert_allclose(values, np.minimum(emg[nearest], limit), rtol=1e-5)


def test_lag_shifts_the_stamps_of_outputs(make_stored):
    stored = make_stored("lag")
    with pynwb.NWBHDF5IO(str(stored.path), "r") as io:
        module = io.read().processing["nwbrnn"]
        outputs, rates = (module[name].timestamps[:] for name in ("recorded_outputs", "recorded_rates"))
    np.testing.assert_allclose(outputs - rates, 0.08, atol=1e-9)
    assert stored.again.recorded.attrs["neural_lag"] == pytest.approx(0.08)


def test_overlapping_trials_go_into_layers(make_stored):
    stored = make_stored("overlap")
    with pynwb.NWBHDF5IO(str(stored.path), "r") as io:
        module = io.read().processing["nwbrnn"]
        assert "predicted_outputs_2" in module.data_interfaces
        for name in ("predicted_outputs", "predicted_outputs_2"):
            assert (np.diff(module[name].timestamps[:]) > 0).all()


def test_units_that_were_lost_are_written_and_read_as_such(make_stored):
    stored = make_stored("partial")
    counts = stored.again.recorded["spike_counts"].values
    lacks = np.isnan(counts).any(axis=(0, 1))
    assert lacks[:3].all()
    assert not lacks[3:].any()
    with pynwb.NWBHDF5IO(str(stored.path), "r") as io:
        series = io.read().processing["nwbrnn"]["recorded_spike_counts"]
        assert np.isnan(series.data[:]).sum() == np.isnan(counts).sum() > 0
    nwbrnn.write_fit_report(stored.again, stored.path.parent / "report.html")
    (stored.path.parent / "report.html").unlink()


def test_conditions_held_out_have_no_known_average(make_stored):
    scores = make_stored("held_out").again.scores
    assert np.isnan(scores.get("output R2").known_average)
    assert np.isnan(scores.output_known_average).all()
    assert np.isfinite(scores.get("output R2").value)


def test_inspector_finds_nothing_that_the_source_did_not_have(make_stored):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nwbinspector and what it imports
        nwbinspector = pytest.importorskip("nwbinspector")

        def inspect(path):
            return {
                message.check_function_name
                for message in nwbinspector.inspect_nwbfile(nwbfile_path=str(path))
                if message.importance.value > nwbinspector.Importance.BEST_PRACTICE_SUGGESTION.value
            }

        for kind in ("recording", "teacher"):
            stored = make_stored(kind)
            assert inspect(stored.path) <= inspect(stored.source)


@pytest.fixture
def failing_write(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pynwb.NWBHDF5IO, "write", fail)


@pytest.mark.usefixtures("failing_write")
def test_failing_write_leaves_everything_as_it_was(make_stored, teacher, tmp_path):
    stored = make_stored("recording")
    out = tmp_path / "out.nwb"
    out.write_bytes(b"precious")
    with pytest.raises(ExportError, match=names(out, os.strerror(errno.ENOSPC))):
        nwbrnn.write_fit(stored.result, stored.source, out, overwrite=True)
    with pytest.raises(ExportError, match=names(tmp_path / "new.nwb", os.strerror(errno.ENOSPC))):
        nwbrnn.write_teacher(teacher.ds, tmp_path / "new.nwb")
    assert out.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [out]


def test_overwriting_needs_to_be_asked_for(make_stored, tmp_path):
    stored = make_stored("recording")
    out = tmp_path / "out.nwb"
    out.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=names(out, "overwrite=True")):
        nwbrnn.write_fit(stored.result, stored.source, out)
    assert out.read_bytes() == b"precious"
    nwbrnn.write_fit(stored.result, stored.source, out, overwrite=True)
    assert nwbrnn.read_fit(out).config == stored.result.config
    assert list(tmp_path.iterdir()) == [out]


def test_missing_source_is_refused(make_stored, tmp_path):
    with pytest.raises(ExportError, match=names(tmp_path / "gone.nwb")):
        nwbrnn.write_fit(make_stored("recording").result, tmp_path / "gone.nwb", tmp_path / "fit.nwb")
    assert list(tmp_path.iterdir()) == []


def test_teacher_comes_back_exactly(teacher):
    ds = nwbrnn.read_nwb(teacher.path)
    for name in ("outputs", "inputs", "rates", "spike_counts", "mask"):
        np.testing.assert_array_equal(ds[name].values, teacher.ds[name].values, err_msg=name)
    for name in ("trial", "unit", "output", "input", "condition", "direction"):
        np.testing.assert_array_equal(ds[name].values, teacher.ds[name].values, err_msg=name)
    np.testing.assert_allclose(ds["time"], teacher.ds["time"], atol=1e-9)
    np.testing.assert_allclose(ds["align_time"], teacher.ds["align_time"], atol=1e-9)
    assert ds["unit_cell_type"].values.tolist() == teacher.ds["cell_type"].values.tolist()
    assert ds.attrs["bin_size"] == teacher.ds.attrs["bin_size"]


def test_teacher_file_is_valid_nwb(teacher):
    assert pynwb.validate(path=str(teacher.path)) == []


def test_circuit_read_back_repeats_the_simulation(teacher):
    from nwbrnn.teacher import Circuit

    weights, settings = nwbrnn.read_circuit(teacher.path)
    np.testing.assert_array_equal(weights, teacher.ds["connectivity"])
    config = nwbrnn.TeacherConfig(**settings)
    assert config == teacher.config
    assert nwbrnn.simulate_teacher(config, circuit=Circuit(weights)).identical(teacher.ds)
