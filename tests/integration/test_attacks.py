"""What an adversarial first user tried, and what went wrong then."""

import hashlib
import json

import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import ConfigError, ExportError, OutputExistsError
from nwbrnn.readers.discovery import find_signals
from nwbrnn.readers.series import read_binned
from nwbrnn.readers.times import to_ticks
from nwbrnn.storage import open_nwb
from tests.messages import assert_names, names

pytestmark = [pytest.mark.slow, pytest.mark.cover]

QUICK = ("--epochs", "2", "--hidden", "20")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_run(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "outputs": rng.normal(size=(12, 20, 2)) + 3,
        "inputs": rng.normal(size=(12, 20, 1)),
        "rates": rng.uniform(1, 20, size=(12, 20, 6)),
        "bin_size": 0.02,
        "condition": np.repeat(["a", "b", "c"], 4),
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


@pytest.mark.parametrize("which", ["source", "fit"])
def test_json_cannot_replace_source_or_fit(which, recording, run_cli, tmp_path):
    source = tmp_path / "source.nwb"
    source.write_bytes(recording.path.read_bytes())
    before = digest(source)
    target = source if which == "source" else tmp_path / "fit.nwb"
    arguments = ("fit", source, "-o", tmp_path / "fit.nwb", "--json", target, "--overwrite", *QUICK)
    finished = run_cli(*arguments)
    assert finished.code == 2
    assert_names(finished.err, target)
    assert digest(source) == before
    assert [p.name for p in tmp_path.iterdir()] == ["source.nwb"]


def test_source_as_output_is_refused_before_the_fit(recording, run_cli):
    before = digest(recording.path)
    finished = run_cli("fit", recording.path, "-o", recording.path, "--overwrite")
    assert finished.code == 2
    assert_names(finished.err, recording.path)
    assert "picked" not in finished.out  # nothing had been read yet
    assert digest(recording.path) == before


def test_only_bins_with_nan_are_masked(make_recording):
    n_bad = 7
    file = make_recording(emg_rate=1000.0, raw=True, nan_emg=(slice(1501, 1501 + n_bad), 1))
    with open_nwb(file.path) as nwbfile:
        signal = next(s for s in find_signals(nwbfile) if s.role == "emg")
        edges = to_ticks(np.arange(0, 5.001, 0.02))[np.newaxis]
        binned, covered, _ = read_binned(signal, edges, nan="mask")
    spoiled = np.flatnonzero(~covered[0])
    assert spoiled.tolist() == sorted({i // 20 for i in range(1501, 1501 + n_bad)})
    assert np.isfinite(binned[covered]).all()


def test_single_trials_of_a_condition_are_not_mixed_up(tmp_path):
    config = nwbrnn.TeacherConfig(n_neurons=60, n_directions=4, n_trials=1, preparation=0.1, movement=0.1)
    nwbrnn.write_teacher(nwbrnn.simulate_teacher(config), tmp_path / "one.nwb")
    ds = nwbrnn.read_nwb(tmp_path / "one.nwb")
    assert ds["condition"].values.tolist() == ["0", "90", "180", "270"]
    with pytest.raises(
        ConfigError, match=names("test", 0.25, "4 trials", "4 conditions", "--held-out-condition")
    ):
        nwbrnn.fit(ds, epochs=1)


def test_overlapping_windows_are_reported(recording):
    roles = {}
    for window in ((-0.2, 0.2), (-0.5, 6.0)):
        choices = json.loads(nwbrnn.read_nwb(recording.path, window=window).attrs["choices"])
        roles[window] = {choice["role"] for choice in choices}
    assert "overlap" in roles[-0.5, 6.0]
    assert "overlap" not in roles[-0.2, 0.2]


def test_windows_that_reach_out_of_their_trials_are_reported(recording):
    notes = {}
    for window in ((-0.5, 1.3), (-0.5, 1.5), (-0.9, 0.5)):
        choices = json.loads(nwbrnn.read_nwb(recording.path, window=window).attrs["choices"])
        notes[window] = [c["picked"] for c in choices if c["role"] == "window reaches"]
    rows = recording.rewarded
    begin, end = ((times - recording.go)[rows] for times in (recording.start, recording.stop))
    assert notes[-0.5, 1.3] == []
    assert notes[-0.5, 1.5] == [f"after stop_time in {(end < 1.5).sum()} of {len(rows)} trials"]
    assert notes[-0.9, 0.5] == [f"before start_time in {(begin > -0.9).sum()} of {len(rows)} trials"]
    extent = ("window", f"{np.median(begin):.3g} to {np.median(end):.3g} s", "go_cue_time")
    with pytest.raises(ConfigError, match=names(recording.path, *extent, "5 to 6 s", "--window")):
        nwbrnn.read_nwb(recording.path, window=(5.0, 6.0))


def test_fractional_counts_are_not_cut_off(teacher, tmp_path):
    counts = teacher.ds["spike_counts"] / 2
    with pytest.raises(ExportError, match=names(tmp_path / "x.nwb", "spike_counts", "rates")):
        nwbrnn.write_teacher(
            teacher.ds.assign(spike_counts=counts.assign_attrs(units="1")), tmp_path / "x.nwb"
        )
    assert not list(tmp_path.iterdir())


def test_repeat_refuses_another_number_of_neurons(teacher, run_cli, tmp_path):
    finished = run_cli("simulate", "--repeat", teacher.path, "--neurons", "50", "-o", tmp_path / "x.nwb")
    assert (finished.code, list(tmp_path.iterdir())) == (2, [])
    assert_names(finished.err, teacher.path, "--neurons", 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--window", "0", "inf"), "window.1"),
        (("--bin-size", "inf"), "bin_size"),
        (("--sampled", "inf"), "sampled"),
        (("--smoothing", "inf"), "smoothing"),
        (("--smoothing", "1e6"), "smoothing"),
        (("--dynamics-weight", "inf"), "dynamics_weight"),
    ],
)
def test_infinite_settings_are_refused(options, words, recording, run_cli, tmp_path):
    finished = run_cli("fit", recording.path, "-o", tmp_path / "x.nwb", *options)
    assert finished.code == 2
    assert finished.err.startswith("Error: ")
    assert_names(finished.err, "command line", words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bin_size": np.array([0.01, 0.02])}, ["bin_size", "time"]),
        ({"bin_size": "fast"}, ["bin_size", "time"]),
        ({"bin_size": None, "time": np.array([0.0])}, ["bin_size", "time"]),
        ({"outputs": np.ones((12, 20))}, ["outputs", "trial x time x output", "(12, 20)"]),
        ({"outputs": np.full((12, 20, 2), np.nan)}, ["'outputs'", 12 * 20 * 2, "mask"]),
        ({"rates": np.full((12, 20, 6), "text")}, ["'rates'", "<U4"]),
        ({"timeseries": np.arange(12.0)}, ["timeseries", "rename"]),
        ({"extra": np.arange(5.0)}, ["extra", "12 trials", "(5,)", "rename"]),
    ],
)
def test_damaged_runs_are_refused_by_name(changes, words, run_cli, tmp_path):
    run = write_run(tmp_path / "run.npz", **changes)
    finished = run_cli("convert", run, "-o", tmp_path / "x.nwb")
    assert finished.code == 2
    assert_names(finished.err, tmp_path / ("x.nwb" if "timeseries" in changes else "run.npz"), *words)
    assert len(finished.err.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_array_file_with_a_wrong_name_is_refused(run_cli, tmp_path):
    with (tmp_path / "run.npz").open("wb") as file:
        np.save(file, np.arange(3))
    finished = run_cli("convert", tmp_path / "run.npz", "-o", tmp_path / "x.nwb")
    assert finished.code == 2
    assert_names(finished.err, tmp_path / "run.npz", "numpy.savez")


def test_directions_as_text_name_the_condition(run_cli, tmp_path):
    run = write_run(tmp_path / "run.npz", condition=None, direction=np.repeat(["up", "down", "left"], 4))
    assert run_cli("convert", run, "-o", tmp_path / "x.nwb").code == 0
    ds = nwbrnn.read_nwb(tmp_path / "x.nwb")
    assert sorted(set(ds["condition"].values.tolist())) == ["down", "left", "up"]


@pytest.mark.parametrize(("name", "words"), [("outputs", ["outputs"]), ("rates", ["sampled", "--sampled 0"])])
def test_what_does_not_vary_is_refused(name, words, run_cli, tmp_path):
    shape = (12, 20, 2 if name == "outputs" else 6)
    run = write_run(tmp_path / "run.npz", **{name: np.full(shape, 5.0)})
    assert run_cli("convert", run, "-o", tmp_path / "x.nwb").code == 0
    finished = run_cli("fit", tmp_path / "x.nwb", "-o", tmp_path / "fit.nwb", *QUICK)
    assert finished.code == 2
    assert_names(finished.err, *words)
    assert not (tmp_path / "fit.nwb").exists()


def test_same_output_twice_is_read_once(recording):
    ds = nwbrnn.read_nwb(recording.path, outputs=("emg", "emg"))
    assert ds.sizes["output"] == nwbrnn.read_nwb(recording.path).sizes["output"]


def test_emg_that_cannot_be_raw_is_refused_by_name(recording, run_cli, tmp_path):
    finished = run_cli("fit", recording.path, "-o", tmp_path / "x.nwb", "--emg", "raw")
    assert finished.code == 2
    assert_names(finished.err, recording.path, "acquisition/EMG", "--emg envelope")


def test_file_that_appears_meanwhile_is_kept(teacher, tmp_path, monkeypatch):
    path = tmp_path / "race.nwb"

    def somebody_is_faster(**_):
        path.write_text("theirs")
        return []

    monkeypatch.setattr("nwbrnn.storage.output.pynwb.validate", somebody_is_faster)
    with pytest.raises(OutputExistsError, match=names(path, "--overwrite")):
        nwbrnn.write_teacher(teacher.ds, path)
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("output", "remedy"), [("", "file name"), (".", "file name"), ("dir/..", ".nwb")])
def test_a_folder_is_no_output_of_a_fit(output, remedy, recording, run_cli, tmp_path, monkeypatch):
    (tmp_path / "dir").mkdir()
    monkeypatch.chdir(tmp_path)
    finished = run_cli("fit", recording.path, "-o", output, *QUICK)
    assert finished.code == 2
    assert_names(finished.err, remedy)
    assert [path.name for path in tmp_path.iterdir()] == ["dir"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "elsewhere"), ("--to", "lfads", "'elsewhere'")),
        (("--to", "copy"), ("--output", "copy")),
        (("--to", "in-place", "-o", "x.nwb"), ("--output", "in-place", "x.nwb")),
        (("-o", "x.nwb", "--as", ""), ("name", "''")),
    ],
)
def test_wrong_options_of_export_are_named(options, words, recording, run_cli, tmp_path, monkeypatch):
    fitted = nwbrnn.fit(nwbrnn.read_nwb(recording.path), sampled=2, min_rate=0, hidden=8, epochs=1)
    nwbrnn.write_fit(fitted, recording.path, tmp_path / "fit.nwb")
    monkeypatch.chdir(tmp_path)
    finished = run_cli("export", "fit.nwb", "--source", recording.path, *options)
    assert finished.code == 2
    assert_names(finished.err, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nwb"]
