"""The commands, from arguments to files."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import nwbrnn
from nwbrnn.evaluation import BASELINES
from nwbrnn.evaluation.baselines import GATED
from tests.messages import assert_names

pytestmark = pytest.mark.slow

SMALL = ("--epochs", 2, "--hidden", 12, "--bin-size", 0.04)


@pytest.fixture(scope="module")
def small_run():
    rng = np.random.default_rng(0)
    shape = (12, 20)
    return {
        "outputs": rng.random((*shape, 2)),
        "inputs": rng.random((*shape, 1)),
        "rates": rng.uniform(1, 50, (*shape, 8)),
        "bin_size": np.array(0.02),
        "direction": np.tile([0.0, 90.0, 180.0], 4),
    }


@pytest.mark.cover
@pytest.mark.slow
def test_fit_then_evaluate(recording, run_cli, tmp_path):
    out, report = tmp_path / "fit.nwb", tmp_path / "fit.json"
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--seed", 4, "--json", report)
    assert (finished.code, finished.err) == (0, "")
    for choice in json.loads(report.read_text())["choices"]:
        assert_names(" ".join(finished.out.split()), choice["role"], choice["picked"])
    written = json.loads(report.read_text())
    assert written["config"]["hidden"] == 12
    assert written["config"]["seed"] == 4
    stored = nwbrnn.read_fit(out)
    value = stored.scores.get("output R2").value
    summary = {(s["name"], s["level"]): s["value"] for s in written["scores"]["summary"]}
    assert summary["output R2", "condition averages"] == value
    assert [o["name"] for o in written["scores"]["outputs"]] == ["FCR", "FCU", "ECR"]
    assert {c["role"] for c in written["choices"]} >= {"outputs", "trials", "align_to", "window", "bin_size"}

    finished = run_cli("evaluate", out, "--gru", "--json", "-")
    assert (finished.code, finished.err) == (0, "")
    evaluated = json.loads(finished.out)
    (outputs,) = [one for one in evaluated["assessment"] if one["name"] == "output R2"]
    rivals = [rival["name"] for rival in outputs["rivals"]]
    assert rivals == [*(b.name for b in BASELINES if b.name in rivals), GATED]
    assert any(GATED in sentence for sentence in evaluated["verdict"])
    assert evaluated["largest_difference"] < 1e-5
    repeated = {(s["name"], s["level"]): s["value"] for s in evaluated["scores"]["summary"]}
    assert repeated["output R2", "condition averages"] == pytest.approx(value, abs=1e-5)

    assert {one["name"] for one in json.loads(finished.out)["assessment"]} >= {"SVCCA", "linear CKA"}
    finished = run_cli("evaluate", out)
    assert "noise ceiling" in finished.out
    assert "computed from" not in finished.out  # the table of nwbrnn fit
    assert_names(finished.out, f"{evaluated['largest_difference']:.1e}")


@pytest.mark.slow
def test_options_reach_reading_and_training(recording, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    finished = run_cli(
        "fit", recording.path, "-o", out, *SMALL, "--window", "-0.4", "0.6", "--where", "result=R,F",
        "--held-out-condition", "90", "--sampled", "50%", "--dynamics-weight", 0.5, "--channels", "FCR, ECR",
        "--json", "-",
    )  # fmt: skip
    assert (finished.code, finished.err) == (0, "")
    config = json.loads(finished.out)["config"]
    assert config["held_out_conditions"] == ["90"]
    assert config["dynamics_weight"] == 0.5
    recorded = nwbrnn.read_fit(out).recorded
    assert recorded.sizes["time"] == 25
    assert recorded.sizes["trial"] == 40
    assert recorded["sampled"].values.sum() == 6
    assert recorded["output"].values.tolist() == ["FCR", "ECR"]
    np.testing.assert_array_equal(recorded["split"] == "test", recording.direction == 90)


def test_where_all_keeps_every_trial(recording, run_cli):
    finished = run_cli("inspect", recording.path, "--where", "all", "--json", "-")
    picked = {c["role"]: c["picked"] for c in json.loads(finished.out)["choices"]}
    assert picked["trials"] == "all (40 of 40)"


@pytest.mark.cover
@pytest.mark.slow
def test_configuration_file_and_options_over_it(recording, run_cli, tmp_path):
    config = tmp_path / "fit.yaml"
    config.write_text("read:\n  bin_size: 0.04\n  window: [-0.2, 0.6]\nfit:\n  hidden: 14\n  epochs: 2\n")
    finished = run_cli(
        "fit", recording.path, "-o", tmp_path / "fit.nwb", "--config", config, "--epochs", 1, "--json", "-"
    )
    assert (finished.code, finished.err) == (0, "")
    written = json.loads(finished.out)
    assert (written["config"]["hidden"], written["config"]["epochs"]) == (14, 1)
    picked = {c["role"]: c["picked"] for c in written["choices"]}
    assert (picked["window"], picked["bin_size"]) == ("-0.2 to 0.6 s", "0.04 s")


@pytest.mark.slow
def test_overwrite_replaces(recording, run_cli, tmp_path):
    out, report = tmp_path / "fit.nwb", tmp_path / "fit.json"
    out.write_bytes(b"old")
    report.write_text("old")
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--overwrite", "--json", report)
    assert (finished.code, finished.err) == (0, "")
    assert nwbrnn.read_fit(out).config.epochs == 2
    assert json.loads(report.read_text())["config"]["epochs"] == 2
    assert sorted(tmp_path.iterdir()) == [report, out]


def test_inspect_prints_and_writes(recording, make_recording, run_cli, tmp_path):
    report = tmp_path / "inspect.json"
    finished = run_cli("inspect", recording.path, "--json", report)
    assert (finished.code, finished.err) == (0, "")
    for text in ("acquisition/EMG", "FCR, FCU, ECR", "go_cue_time", "result = R (35 of 40)", "20 ms"):
        assert text in finished.out
    assert json.loads(report.read_text())["units"]["number"] == 12
    short = run_cli("inspect", recording.path, "--choices")
    assert (short.code, short.err) == (0, "")
    assert finished.out.endswith(short.out)  # the last of the tables
    assert "go_cue_time" in short.out
    assert "identifier" not in short.out
    finished = run_cli("inspect", make_recording(layout="none").path)
    assert finished.code == 2
    assert_names(finished.out, "outputs")
    assert "--map" not in finished.out  # there is no series to name


@pytest.mark.cover
def test_simulate_and_repeat(run_cli, tmp_path):
    first, second, other = (tmp_path / f"{name}.nwb" for name in ("first", "second", "other"))
    options = ["--neurons", 60, "--directions", 3, "--trials", 2, "--preparation", 0.1, "--movement", 0.2]
    finished = run_cli("simulate", "-o", first, *options, "--muscles", 2, "--seed", 5)
    assert (finished.code, finished.err) == (0, "")
    assert_names(finished.out, first, "6 trials", "60 units", "2 outputs", "30 bins", "0.01 s")
    assert run_cli("simulate", "-o", second, "--repeat", first).code == 0
    assert run_cli("simulate", "-o", other, "--repeat", first, "--trials", 1).code == 0
    a, b, c = (nwbrnn.read_nwb(path) for path in (first, second, other))
    for name in ("outputs", "rates", "inputs", "spike_counts"):
        np.testing.assert_array_equal(a[name], b[name])
    assert c.sizes["trial"] == 3
    np.testing.assert_array_equal(nwbrnn.read_circuit(other)[0], nwbrnn.read_circuit(first)[0])


def test_what_read_made_of_a_teacher_can_be_converted(run_cli, tmp_path):
    assert run_cli("read", "example_data/teacher.nwb", "-o", tmp_path / "run.nc").code == 0
    assert run_cli("convert", tmp_path / "run.nc", "-o", tmp_path / "again.nwb").code == 0
    first, again = (nwbrnn.read_nwb(path) for path in ("example_data/teacher.nwb", tmp_path / "again.nwb"))
    np.testing.assert_array_equal(first["spike_counts"], again["spike_counts"])
    np.testing.assert_allclose(first["outputs"], again["outputs"], rtol=1e-6)
    assert first["unit_cell_type"].values.tolist() == again["unit_cell_type"].values.tolist()
    assert first["unit_neuron"].values.tolist() == again["unit_neuron"].values.tolist()
    for name in ("connectivity", "readout", "readout_offset"):
        np.testing.assert_array_equal(first[name], again[name])


def test_convert_arrays(small_run, run_cli, tmp_path):
    counts = np.random.default_rng(1).poisson(small_run["rates"] * 0.02)
    np.savez(tmp_path / "run.npz", **small_run, spike_counts=counts)
    out = tmp_path / "teacher.nwb"
    finished = run_cli("convert", tmp_path / "run.npz", "-o", out)
    assert (finished.code, finished.err) == (0, "")
    ds = nwbrnn.read_nwb(out)
    for name in ("outputs", "inputs", "rates"):
        np.testing.assert_allclose(ds[name].values, small_run[name], rtol=1e-6)
    np.testing.assert_array_equal(ds["spike_counts"], counts)
    assert ds["condition"].values.tolist() == ["0", "90", "180"] * 4


def test_convert_warns_about_a_run_without_conditions(small_run, run_cli, tmp_path):
    run = tmp_path / "run.npz"
    np.savez(run, **small_run)
    assert "Warning" not in run_cli("convert", run, "-o", tmp_path / "three.nwb").out
    np.savez(run, **{name: values for name, values in small_run.items() if name != "direction"})
    finished = run_cli("convert", run, "-o", tmp_path / "one.nwb")
    assert (finished.code, finished.err) == (0, "")
    assert_names(finished.out, "Warning", "condition", "direction", run)


@pytest.mark.parametrize("missing", ["outputs", "inputs", "rates", "bin_size"])
def test_convert_says_which_arrays_are_missing(missing, small_run, run_cli, tmp_path):
    run = tmp_path / "run.npz"
    np.savez(run, **{name: values for name, values in small_run.items() if name != missing})
    finished = run_cli("convert", run, "-o", tmp_path / "teacher.nwb")
    assert finished.code == 2
    assert finished.err.startswith(f"Error: {run}: ")
    wanted, present = finished.err.split("but")
    assert_names(wanted, missing)
    assert not set(re.findall(r"\w+", present)) & {missing}
    assert_names(present, *(name for name in small_run if name != missing))
    assert list(tmp_path.iterdir()) == [run]


def test_convert_refuses_arrays_of_unknown_shape(small_run, run_cli, tmp_path):
    run = tmp_path / "run.npz"
    np.savez(run, **small_run, extra=np.zeros(5))
    finished = run_cli("convert", run, "-o", tmp_path / "teacher.nwb")
    assert finished.code == 2
    assert_names(finished.err, run, "extra", "12 trials", "(5,)")


def test_convert_dataset(teacher, run_cli, tmp_path):
    run, out = tmp_path / "run.nc", tmp_path / "teacher.nwb"
    try:
        teacher.ds.to_netcdf(run, engine="scipy")
    except (ValueError, ImportError, TypeError) as error:
        pytest.skip(f"xarray cannot write NetCDF here: {error}")
    finished = run_cli("convert", run, "-o", out)
    assert (finished.code, finished.err) == (0, "")
    ds = nwbrnn.read_nwb(out)
    for name in ("outputs", "inputs", "rates", "spike_counts"):
        np.testing.assert_array_equal(ds[name].values, teacher.ds[name].values)


@pytest.mark.parametrize("command", ["fit", "inspect", "evaluate", "simulate", "convert"])
def test_help_of_each_command(command, run_cli):
    finished = run_cli(command, "--help")
    assert finished.code == 0
    assert "--overwrite" in finished.out


def test_starting_the_command_does_not_import_torch_or_pynwb():
    code = "import sys, nwbrnn.cli.main; sys.exit(bool({'torch', 'pynwb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_with_rates_but_no_spikes_can_be_read_after_convert(small_run, run_cli, tmp_path):
    np.savez(tmp_path / "run.npz", **small_run)
    out = tmp_path / "teacher.nwb"
    assert run_cli("convert", tmp_path / "run.npz", "-o", out).code == 0
    ds = nwbrnn.read_nwb(out)
    for name in ("outputs", "inputs", "rates"):
        np.testing.assert_allclose(ds[name].values, small_run[name], rtol=1e-6)
