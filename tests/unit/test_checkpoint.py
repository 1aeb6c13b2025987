import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError, ExportError, TrainingDivergedError
from nwbrnn.job import fit
from nwbrnn.preprocessing import prepare
from nwbrnn.storage.paths import create_temporary_name
from nwbrnn.training import checkpoint as checkpoints
from nwbrnn.training import train
from nwbrnn.training.checkpoint import Checkpoint
from tests.messages import names
from tests.unit.test_training import QUICK, create_recording

pytestmark = pytest.mark.slow

SETTINGS = QUICK | {"epochs": 12, "patience": 5, "noise": 0.1}


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)


def run(path=None, *, stop_after=None, resume=False, **changes):
    """Train; interrupt after some epochs, counted over everything in the history."""
    config = FitConfig(**(SETTINGS | changes))
    ds = prepare(create_recording(), config)

    def progress(number, losses):
        if number == stop_after:
            raise KeyboardInterrupt

    return train(ds, config, progress=progress, checkpoint=path, resume=resume)


def assert_same(first, second):
    assert first.history == second.history
    assert first.losses == second.losses
    for name, values in first.weights.items():
        np.testing.assert_array_equal(values, second.weights[name], err_msg=name)


CASES = {
    "gradient": {},
    "no validation": {"validation": 0},
    "no noise": {"noise": 0.0},
    "patience": {"learning_rate": 1.0},
    "after least squares": {"method": "auto", "patience": 50},
    "float64": {"precision": "float64"},
    "learned tau": {"learn_tau": True, "initial_state": "condition"},
    "Dale": {"excitatory": 0.5, "density": 0.5},
    "low rank": {"rank": 3},
    "observer": {"observe": "all", "observe_dropout": 0.3},
    "observer after least squares": {"observe": "sampled", "method": "auto", "patience": 50},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_resumed_fit_equals_an_uninterrupted_one_bit_for_bit(tmp_path, changes):
    whole = run(**changes)
    path = tmp_path / "fit.checkpoint"
    for stop in (0, 3):  # twice in a row
        stopped = run(path, stop_after=stop + len(whole.history["train_total"]) - 12, resume=True, **changes)
        assert stopped.ended == "interrupted" or len(whole.history["train_total"]) < 12
    assert_same(run(path, resume=True, **changes), whole)


def test_interrupts_at_the_last_epoch_and_resumes_of_a_finished_fit_change_nothing(tmp_path):
    whole, path = run(), tmp_path / "fit.checkpoint"
    assert_same(run(path, stop_after=11), whole._replace(ended="interrupted"))
    assert_same(run(path, resume=True), whole)
    assert_same(run(path, resume=True), whole)


def test_without_resume_a_checkpoint_is_replaced(tmp_path):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    assert_same(run(path), run())


def test_an_interrupt_ends_with_the_best_so_far(tmp_path):
    stopped = run(tmp_path / "fit.checkpoint", stop_after=6)
    assert stopped.ended == "interrupted"
    assert len(stopped.history["train_output"]) == 7
    assert stopped.loss <= min(stopped.history["validation_total"])


def test_the_file_holds_tensors_and_json_and_no_leftovers(tmp_path):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.checkpoint"]
    content = path.read_bytes()
    assert b"pickle" not in content
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["nwbrnn_checkpoint"])
        assert about["epoch"] == 4
        assert len(file.get_tensor("history.train_output")) == 4


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", "half"])
def test_a_damaged_checkpoint_is_refused_with_the_remedy(tmp_path, damage):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    path.write_bytes(path.read_bytes()[:1000] if damage == "half" else damage)
    with pytest.raises(ConfigError, match=names(path, "remove")):
        run(path, resume=True)


def test_a_checkpoint_of_another_fit_is_refused_and_the_difference_named(tmp_path):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    with pytest.raises(ConfigError, match=names(path, "learning_rate, tau", "remove")):
        run(path, resume=True, tau=0.2, learning_rate=0.1)
    config = FitConfig(**SETTINGS)
    ds = prepare(create_recording(seed=1), config)
    with pytest.raises(ConfigError, match=names(path, "data", "remove")):
        train(ds, config, checkpoint=path, resume=True)


def rewrite(path, tensors=None, about=None, *, remove=(), hashed=True):
    """Change parts of a checkpoint, and its hash with them; its form stays that of the fit."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["nwbrnn_checkpoint"])
        whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, change in (tensors or {}).items():
        whole[name] = change(whole.get(name)).contiguous()
    for name in remove:
        del whole[name]
    told = header | (about or {})
    if hashed:
        del told["hash"]
        told["hash"] = checkpoints._compute_hash(whole, told)
    save_file(whole, path, {"nwbrnn_checkpoint": json.dumps(told)})
    return list(whole)


@pytest.mark.parametrize("name", ["model.full_weights", "best.bias", "noise", "history.train_total"])
def test_a_checkpoint_in_which_one_bit_has_changed_is_refused(tmp_path, name):
    def flip(tensor):
        changed = tensor.clone()
        changed.view(torch.uint8).view(-1)[0] ^= 1
        return changed

    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    rewrite(path, {name: flip}, hashed=False)
    with pytest.raises(ConfigError, match=r"fit\.checkpoint: "):
        run(path, resume=True)


LOSSES = {"history.train_total": torch.ones(3).double(), "history.train_rate": torch.zeros(3).double()}


def test_a_checkpoint_in_which_a_name_has_changed_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "fit.checkpoint", {"settings": "same"})
    checkpoint.write(LOSSES, {"epoch": 3})
    assert set(checkpoint.read([{}])[0]) == set(LOSSES)
    with safe_open(checkpoint.path, framework="pt") as file:
        header, whole = file.metadata(), {name: file.get_tensor(name) for name in LOSSES}
    whole["history.train_rates"] = whole.pop("history.train_rate")  # their order stays
    save_file(whole, checkpoint.path, header)
    with pytest.raises(ConfigError, match=names(checkpoint.path, "damaged")):
        checkpoint.read([{}])


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "fit.checkpoint", {"settings": "same"})
    checkpoint.write(LOSSES, {"epoch": 3})
    monkeypatch.setattr(checkpoints, "_LAYOUT", checkpoints._LAYOUT + 1)
    with pytest.raises(ConfigError, match=names(checkpoint.path, "version")):
        checkpoint.read([{}])


SHAPES = {
    "shorter": lambda t: t[:-1] if t.ndim else t.reshape(1),
    "longer": lambda t: torch.cat([t.reshape(-1), t.reshape(-1)]),
    "flat": lambda t: t.reshape(1, -1),
    "another type": lambda t: t.to(torch.int32),
}


@pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
def test_a_checkpoint_with_a_part_of_another_shape_is_refused_by_name(tmp_path, change):
    path, own = tmp_path / "fit.checkpoint", tmp_path / "own.checkpoint"
    run(own, stop_after=3)
    shutil.copy(own, path)
    parts = ["model.full_weights", "best.bias", "adam.0.exp_avg", "adam.2.exp_avg_sq", "adam.0.step", "noise"]
    assert set(parts) <= set(rewrite(path))
    for name in parts:
        shutil.copy(own, path)
        rewrite(path, {name: change})
        with pytest.raises(ConfigError, match=rf"fit\.checkpoint: {name}: expected"):
            run(path, resume=True)


@pytest.mark.parametrize(
    "name", ["model.bias", "best.bias", "adam.2.exp_avg_sq", "noise", "history.train_total"]
)
def test_a_checkpoint_without_a_part_is_refused_by_name(tmp_path, name):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    rewrite(path, remove=[name])
    with pytest.raises(ConfigError, match=rf"fit\.checkpoint: {name}: expected"):
        run(path, resume=True)


@pytest.mark.parametrize(
    ("tensors", "about"),
    [
        ({"adam.99.step": lambda _: torch.zeros(())}, {}),
        ({"adam.x": lambda _: torch.zeros(())}, {}),
        ({"history.train_total": lambda t: t[:-1]}, {}),
        ({"history.train_output": lambda t: t.reshape(1, -1)}, {}),
        ({"noise": lambda t: torch.full_like(t, 255)}, {}),
        ({}, {"epoch": "soon"}),
        ({}, {"epoch": None}),
        ({}, {"best_loss": 3}),
        ({}, {"learning_rate": [1]}),
        ({}, {"fingerprint": [1]}),
    ],
)
def test_a_checkpoint_with_other_parts_is_refused(tmp_path, tensors, about):
    path = tmp_path / "fit.checkpoint"
    run(path, stop_after=3)
    rewrite(path, tensors, about)
    with pytest.raises(ConfigError, match=r"fit\.checkpoint: "):
        run(path, resume=True)


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path):
    path = tmp_path / "missing" / "fit.checkpoint"
    with pytest.raises(ExportError, match=names(path, os.strerror(errno.ENOENT))):
        run(path)


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_that_is_no_checkpoint_stays(tmp_path, resume):
    path = tmp_path / "session.nwb"
    path.write_bytes(b"\x89HDF\r\n\x1a\n somebody's recording")
    before = path.read_bytes()
    with pytest.raises((ExportError, ConfigError), match=r"session\.nwb"):
        run(path, resume=resume)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_several_seeds_have_a_checkpoint_each(tmp_path):
    path = tmp_path / "fit.checkpoint"
    result = fit(create_recording(), checkpoint=path, seeds=2, **QUICK)
    again = fit(create_recording(), checkpoint=path, resume=True, seeds=2, **QUICK)
    assert [run.seed for run in result.runs] == [run.seed for run in again.runs]
    np.testing.assert_array_equal(result.weights["bias"], again.weights["bias"])


def test_states_are_written_only_when_they_are_due(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "fit.checkpoint"
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: 1.0)
    run(path)
    assert not path.exists()  # a fit of less than ten seconds
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    checkpoint = Checkpoint(path, {})
    assert [checkpoint.is_due() for _ in range(3)] == [False, False, True]


@pytest.mark.cover
def test_divergence_is_retried_once_if_asked():
    with pytest.raises(
        TrainingDivergedError, match=names("epoch 1", "input_weights", "learning_rate", "max_gradient_norm")
    ):
        run(learning_rate=1e9)
    with pytest.warns(UserWarning, match=names("epoch 1", "input_weights", "learning_rate 2.5e+08")):  # noqa: SIM117
        with pytest.raises(TrainingDivergedError):
            run(learning_rate=1e9, retry=True)


def test_a_retry_starts_from_the_beginning_with_a_quarter_of_the_step(monkeypatch):
    expected = run(learning_rate=0.01)
    original = torch.nn.utils.clip_grad_norm_
    calls = []

    def break_once(parameters, limit):
        calls.append(1)
        norm = original(parameters, limit)
        return norm * float("nan") if len(calls) == 4 else norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", break_once)
    with pytest.warns(UserWarning, match=names("epoch 3", "gradient", "learning_rate 0.01")):
        found = run(learning_rate=0.04, retry=True)
    assert_same(found, expected)


def train_for_long(path, progress=None):
    """Train for 150 epochs, or what is left of them."""
    config = FitConfig(**(SETTINGS | {"epochs": 150, "patience": 1000}))
    return train(prepare(create_recording(), config), config, progress=progress, checkpoint=path, resume=True)


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from nwbrnn.training.checkpoint import Checkpoint
from tests.unit import test_checkpoint as t

def progress(number, losses):
    print(number, flush=True)
    sys.stdin.readline()

Checkpoint.is_due = lambda self: True
trained = t.train_for_long(Path(sys.argv[1]), progress)
print("ended", trained.ended, flush=True)
"""


def start_script(tmp_path):
    """Start a fit that says the number of each epoch, and then waits for a line."""
    root = str(Path(__file__).resolve().parents[2])
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=root))
    arguments = [sys.executable, str(script), str(tmp_path / "fit.checkpoint")]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go_on(process):
    """Return the number of the next epoch."""
    number = int(process.stdout.readline())
    process.stdin.write("\n")
    process.stdin.flush()
    return number


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_that_was_checkpointed(campaign, tmp_path):
    kills = campaign("kills of fits between checkpoints", few=2, many=25)
    reached = -1
    for _ in range(kills.size):
        process = start_script(tmp_path)
        numbers = [go_on(process) for _ in range(kills.rng.randrange(2, 5))]
        time.sleep(kills.rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        rest = [int(line) for line in process.communicate()[0].split() if line.isdigit()]
        # it goes on where the last state was: at most the epoch that was under way is repeated
        assert numbers[0] in (reached, reached + 1)
        reached = max([*numbers, *rest])
        assert process.returncode == -signal.SIGKILL
        kills.count("killed")
    assert_same(train_for_long(tmp_path / "fit.checkpoint"), train_for_long(tmp_path / "whole.checkpoint"))


@pytest.mark.slow
def test_an_interrupt_from_the_keyboard_ends_cleanly(tmp_path):
    process = start_script(tmp_path)
    for _ in range(3):
        go_on(process)
    process.send_signal(signal.SIGINT)
    assert "ended interrupted" in process.communicate(timeout=600)[0]
    assert process.returncode == 0
    assert (tmp_path / "fit.checkpoint").exists()


def test_a_retry_after_a_resume_starts_where_a_retry_without_one_starts(tmp_path, monkeypatch):
    original, path = torch.nn.utils.clip_grad_norm_, tmp_path / "fit.checkpoint"
    changes = {"method": "auto", "retry": True, "learning_rate": 0.04, "patience": 1000}
    n_passes = len(run(**changes).history["train_total"]) - 12
    run(path, stop_after=n_passes + 2, **changes)
    found = []
    for fail_at, given in ((7, {}), (4, {"path": path, "resume": True})):  # epoch 6 in both
        calls = []

        def break_once(parameters, limit, calls=calls, fail_at=fail_at):
            calls.append(1)
            return original(parameters, limit) * (float("nan") if len(calls) == fail_at else 1)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", break_once)
        with pytest.warns(UserWarning, match=names("epoch 6", "learning_rate 0.01")):
            found.append(run(**given, **changes))
    assert_same(*found)


@pytest.mark.cover
def test_what_a_killed_write_left_is_removed(tmp_path):
    path = tmp_path / "fit.checkpoint"
    create_temporary_name(path, suffix=".checkpoint").write_bytes(b"half")
    run(path, stop_after=3)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.checkpoint"]
