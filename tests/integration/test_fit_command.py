"""``nwbrnn fit``: settings, several networks, interrupts and what goes on after them."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

import nwbrnn
from nwbrnn.errors import ExportError
from nwbrnn.storage import file, source
from nwbrnn.training.checkpoint import Checkpoint
from tests.messages import assert_names

pytestmark = pytest.mark.slow

SMALL = ("--epochs", 3, "--hidden", 12, "--bin-size", 0.04)


def test_settings_on_the_command_line_are_those_of_a_file(recording, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    finished = run_cli(
        "fit", recording.path, "-o", out, *SMALL, "--method", "gradient", "--set", "learn_tau=true",
        "--set", "nonlinearity=soc", "--set", "initial_state=condition",
        "--set", "output_importance={FCR: 2}",
    )  # fmt: skip
    assert (finished.code, finished.err) == (0, "")
    stored = nwbrnn.read_fit(out)
    assert stored.config.method == "gradient"
    assert stored.config.nonlinearity == "soc"
    assert stored.config.output_importance == {"FCR": 2.0}
    assert len(stored.history["train_output"]) == 3
    assert stored.weights["tau"].shape == (12,)
    n_conditions = len(set(stored.recorded["condition"].values.tolist()))
    assert stored.weights["initial_state"].shape == (n_conditions, 12)
    again = nwbrnn.predict(stored.recorded, stored.weights, stored.config)
    mask = stored.recorded["mask"].values
    np.testing.assert_allclose(
        again["outputs"].values[mask], stored.predicted["outputs"].values[mask], atol=1e-5
    )


def test_a_network_that_observes_neurons_goes_through_all_commands(recording, run_cli, tmp_path):
    out, again, page = (tmp_path / name for name in ("fit.nwb", "again.nwb", "page.html"))
    settings = "observe_dropout=0.2", "min_rate=0", "stop_after=3", "method=gradient"
    given = [part for setting in settings for part in ("--set", setting)]
    fitted = run_cli("fit", recording.path, "-o", out, *SMALL, "--observe", "sampled", "--sampled", 3, *given)
    assert (fitted.code, fitted.err) == (0, "")
    stored = nwbrnn.read_fit(out)
    assert stored.weights["observer_weights"].shape == (12, 3)
    assert stored.weights["observer_weights"].any()
    report = tmp_path / "scores.json"
    assert run_cli("evaluate", out, "--json", report).code == 0
    found = json.loads(report.read_text())
    assert found["largest_difference"] < 1e-5
    values = {score["name"]: score["value"] for score in found["assessment"]}
    assert np.isfinite(values["co-smoothing bits per spike"])
    assert run_cli("report", out, "-o", page).code == 0
    assert 'id="forecast"' in page.read_text()
    assert run_cli("refit", out, "-o", again, "--source", recording.path).code == 0
    repeated = nwbrnn.read_fit(again)
    for name, weights in stored.weights.items():
        np.testing.assert_array_equal(repeated.weights[name], weights, err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--observe", "some"), ["command line", "observe", "'sampled'", "'some'"]),
        (("--set", "tau"), ["--set", "name=value", "'tau'"]),
        (("--set", "tau=[1"), ["--set", "YAML", "'[1'"]),
        (("--set", "taw=1"), ["command line", "taw", "tau"]),
        (
            ("--method", "magic"),
            ["command line", "method", "'auto', 'gradient' or 'least_squares'", "'magic'"],
        ),
        (("--dynamics-weight", "much"), ["command line", "dynamics_weight", "'cv'", "'much'"]),
        (("--seeds", 0), ["command line", "seeds", "equal to 1", "got 0"]),
    ],
)
def test_unsuitable_settings_are_refused(recording, run_cli, tmp_path, arguments, message):
    finished = run_cli("fit", recording.path, "-o", tmp_path / "fit.nwb", *arguments)
    assert finished.code == 2
    assert_names(finished.err, *message)
    assert not list(tmp_path.iterdir())


def test_the_source_is_resolved_opened_and_hashed_once(recording, run_cli, tmp_path, monkeypatch):
    path = tmp_path / "session.nwb"
    shutil.copy(recording.path, path)
    counts = Counter()

    def count(module, name, is_meant):
        original = getattr(module, name)

        def call(*args, **kwargs):
            counts[name] += is_meant(args[0])
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    count(source, "check_input", lambda read: read == path)
    count(file, "open_store", lambda where: where.url == str(path))
    count(file, "find_links_outside", lambda root: root.filename == str(path))
    count(source, "_compute_hash", lambda files: list(files) == [path])
    finished = run_cli("fit", path, "-o", tmp_path / "fit.nwb", *SMALL)
    assert finished.code == 0
    assert counts == {"check_input": 1, "open_store": 1, "find_links_outside": 1, "_compute_hash": 1}


def test_a_source_that_changes_meanwhile_is_hashed_again(recording, tmp_path):
    path = tmp_path / "session.nwb"
    shutil.copy(recording.path, path)
    found = source.find_source(path)
    first = found.compute_sha256()
    assert found.compute_sha256() == first
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(status.st_size - 1)
        stream.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # who changes it can set this back
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of a file system may tick each 10 ms
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found.compute_sha256() == hashlib.sha256(path.read_bytes()).hexdigest() != first


def test_several_networks_are_ranked_and_come_back_from_the_file(recording, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--seeds", 3)
    assert (finished.code, finished.err) == (0, "")
    assert "mean ± SD" in finished.out
    stored = nwbrnn.read_fit(out)
    assert [run.loss for run in stored.runs] == sorted(run.loss for run in stored.runs)
    assert sorted(run.seed for run in stored.runs) == [0, 1, 2]
    losses = [finished.out.index(f"{run.loss:.4g}") for run in stored.runs]
    assert losses == sorted(losses)  # the best first
    for run in stored.runs:
        predicted = nwbrnn.predict(stored.recorded, run.weights, stored.config)
        scores = nwbrnn.evaluate(stored.recorded, predicted)
        assert scores.get("output R2").value == pytest.approx(run.scores.get("output R2").value, abs=1e-5)
        np.testing.assert_allclose(scores.output_r2, run.scores.output_r2, atol=1e-5)
        assert len(run.history["train_output"]) >= 3
        assert run.ended == "finished"
    assert not list(tmp_path.glob("*checkpoint*"))


def test_the_dynamics_weight_can_be_left_to_cross_validation(recording, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--dynamics-weight", "cv")
    assert (finished.code, finished.err) == (0, "")
    stored = nwbrnn.read_fit(out)
    assert_names(finished.out, f"dynamics weight {stored.config.dynamics_weight:g}")
    candidates = json.loads(stored.recorded.attrs["cross_validation"])
    best = min(candidates, key=lambda candidate: np.mean(candidate["errors"]))
    assert best["dynamics_weight"] == stored.config.dynamics_weight
    assert np.median(best["epochs"]) == stored.config.stop_after


def test_an_unfinished_fit_is_not_lost_by_mistake(recording, run_cli, tmp_path):
    out, left = tmp_path / "fit.nwb", tmp_path / "fit.nwb.checkpoint"
    left.write_bytes(b"something")
    finished = run_cli("fit", recording.path, "-o", out, *SMALL)
    assert finished.code == 2
    assert_names(finished.err, left, "--resume", "--overwrite")
    assert left.read_bytes() == b"something"
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--resume")
    assert finished.code == 2
    assert_names(finished.err, left, "remove")
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--overwrite")
    assert finished.code == 2  # it is somebody else's
    assert_names(finished.err, left, "remove")
    assert left.read_bytes() == b"something"
    left.unlink()
    Checkpoint(left, {}).write({"weights": torch.zeros(2)}, {})
    assert run_cli("fit", recording.path, "-o", out, *SMALL).code == 2
    finished = run_cli("fit", recording.path, "-o", out, *SMALL, "--overwrite")
    assert (finished.code, finished.err) == (0, "")
    assert not left.exists()


def test_resume_without_a_checkpoint_is_an_ordinary_fit(recording, run_cli, tmp_path):
    finished = run_cli("fit", recording.path, "-o", tmp_path / "fit.nwb", *SMALL, "--resume")
    assert (finished.code, finished.err) == (0, "")


INTERRUPTED = """
import os, signal, sys
from nwbrnn.cli.main import main
from nwbrnn.training.checkpoint import Checkpoint

epochs = iter(range(1000))

def is_due(self):
    if next(epochs) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return True

Checkpoint.is_due = is_due
sys.argv = {arguments!r}
main()
"""


def test_ctrl_c_writes_the_best_so_far_and_resume_ends_where_an_undisturbed_fit_ends(
    recording, run_cli, tmp_path, monkeypatch
):
    def list_arguments(name):
        settings = ("--epochs", "20", "--hidden", "12", "--bin-size", "0.04", "--set", "patience=5000")
        return ["fit", str(recording.path), "-o", str(tmp_path / name), *settings]

    program = INTERRUPTED.format(arguments=["nwbrnn", *list_arguments("stopped.nwb")])
    command = [sys.executable, "-c", program]
    interrupted = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert interrupted.returncode == 130, interrupted.stderr
    assert_names(interrupted.stderr, tmp_path / "stopped.nwb", "--resume")
    stopped = nwbrnn.read_fit(tmp_path / "stopped.nwb")
    assert stopped.best.ended == "interrupted"
    assert (tmp_path / "stopped.nwb.checkpoint").exists()

    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    for name, more in (("stopped.nwb", ["--resume"]), ("whole.nwb", [])):
        finished = run_cli(*list_arguments(name), *more)
        assert (finished.code, finished.err) == (0, "")
    resumed, whole = (nwbrnn.read_fit(tmp_path / name) for name in ("stopped.nwb", "whole.nwb"))
    assert len(stopped.history["train_output"]) < len(whole.history["train_output"])
    for name, values in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], values, err_msg=name)
    assert resumed.history == whole.history
    assert not (tmp_path / "stopped.nwb.checkpoint").exists()


def test_nothing_of_a_checkpoint_is_left_after_a_fit(recording, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    finished = run_cli("fit", recording.path, "-o", tmp_path / "fit.nwb", *SMALL)
    assert (finished.code, finished.err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nwb"]


HOLD = """
import sys
from pathlib import Path
from nwbrnn.storage.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(path):
    """Let another process hold the lock of an output; end it by force."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes)
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_the_second_of_two_fits_with_the_same_output_is_refused_at_its_start(recording, run_cli, tmp_path):
    output, link = tmp_path / "fit.nwb", tmp_path / "elsewhere"
    link.symlink_to(tmp_path)
    with held(output):
        for path in (output, link / "fit.nwb"):
            refused = run_cli("fit", recording.path, "-o", path, "--overwrite", *SMALL)
            assert refused.code == 2
            assert_names(refused.err, path)
            assert refused.out == ""  # nothing had been read yet
        assert run_cli("fit", recording.path, "-o", tmp_path / "x.nwb", *SMALL).code == 0
    # the lock was that of the process, which was killed
    assert run_cli("fit", recording.path, "-o", output, *SMALL).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "fit.nwb", "x.nwb"]


def test_two_fits_with_the_same_checkpoint_are_refused(recording, tmp_path):
    ds = nwbrnn.read_nwb(recording.path, bin_size=0.1)
    settings = {"epochs": 1, "hidden": 12, "checkpoint": tmp_path / "fit.checkpoint"}
    with held(tmp_path / "fit.checkpoint"), pytest.raises(ExportError, match=r"fit\.checkpoint: expected no"):
        nwbrnn.fit(ds, **settings)
    nwbrnn.fit(ds, **settings)
    assert not list(tmp_path.iterdir())
