"""``fit.yaml``: what is wrong with it is said with its line; ``nwbrnn config`` writes one that is right."""

import re

import pytest
import yaml
from pydantic import BaseModel

from nwbrnn.config import FitConfig, JobConfig, ReadConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.config.file import MAX_BYTES, MAX_VALUES, format_config, read_config
from nwbrnn.errors import ConfigError
from nwbrnn.teacher import TeacherConfig
from nwbrnn.text import MAX_SHOWN
from tests.messages import assert_names, names


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as a file, and one that returns what is wrong, by line."""
    path = tmp_path / "fit.yaml"

    def get_faults(text):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        lines = str(caught.value).split("\n")
        assert all(line.startswith(f"{path}:") for line in lines)
        pairs = [line.removeprefix(f"{path}:").split(": ", 1) for line in lines]
        return [(int(number), message) for number, message in pairs]

    return get_faults


FAULTS = {
    # text: line, what the message holds
    "read:\n  bin_size: -1\n": (2, ["read.bin_size", "greater than 0", "got -1"]),
    "\n\nfit:\n\n  # more\n  hiden: 20\n": (6, ["fit.hiden", "hidden"]),
    "read:\n  tau: 3\n": (2, ["read.tau", "section fit"]),
    "fit:\n  hidden: many\n": (2, ["fit.hidden", "whole number", "'many'", 200]),
    "fit: {epochs: 5,\n  seeds: 2.5}\n": (2, ["fit.seeds", "whole number", 2.5]),
    "fit:\n  sampled: 2.5\n": (2, ["fit.sampled", "whole number", "fraction", 2.5]),
    "fit:\n  dynamics_weight: high\n": (2, ["fit.dynamics_weight", "number", "'cv'", "'high'"]),
    "fit:\n  nonlinearity: relu\n": (2, ["fit.nonlinearity", "'tanh', 'softplus' or 'soc'", "'relu'"]),
    "fit:\n  tau: .nan\n": (2, ["fit.tau", "a finite number", "nan"]),
    "fit:\n  1: 3\n": (2, ["fit.1", "names that are text", 1]),
    "fit:\n  start_from: ''\n": (2, ["fit.start_from", "not empty", "''"]),
    "read:\n  window: [1, 2, 3]\n": (2, ["read.window", "2 values at most", "'trial'", "[1, 2, 3]"]),
    "read:\n  condition: [a, a]\n": (2, ["read.condition", "once", "['a', 'a']"]),
    "fit:\n  tau: yes\n": (2, ["fit.tau", "true or false", "True", 0.1]),
    "fit:\n  average: perhaps\n": (2, ["fit.average", "true or false", "'perhaps'"]),
    "read:\n  window: [1, x]\n": (2, ["read.window.1", "number", "'x'"]),
    "read:\n  channels:\n    - FCR\n    - 3\n": (4, ["read.channels.1", "text", 3]),
    "read:\n  map:\n    emg: a\n    muscle: b\n": (4, ["read.map.muscle", "'emg', 'force'", "'muscle'"]),
    "fit:\n  output_importance:\n    FCR: 1\n    FCU: much\n": (
        4,
        ["fit.output_importance.FCU", "number", "'much'"],
    ),
    "fit:\n  rank: 9\n  hidden: 5\n": (2, ["fit.rank", "hidden", 5, 9]),
    "fit:\n  tau: 1\n  tau: 2\n": (3, ["fit.tau", "line 2"]),
    "fit:\n  tau: 1\nread: {}\nfit: {}\n": (4, ["fit", "line 1"]),
    "read:\n  window: [2, 1]\n": (2, ["read.window", "start < stop", "(2.0, 1.0)"]),
    "read: {}\ntraining: {}\n": (2, ["training", "read, fit"]),
    "- fit\n": (1, ["read, fit"]),
    "fit:\n  - tau\n": (1, ["fit", "nwbrnn config"]),
    "fit:\n\ttau: 1\n": (2, ["YAML", r"'\t'"]),
    "fit:\n  tau: [1, 2\n": (3, ["YAML"]),
    "fit:\n  tau: !!python/object:os.system {}\n": (2, ["YAML", "python/object:os.system"]),
    "fit: {}\n---\nfit: {}\n": (2, ["YAML"]),
}


@pytest.mark.parametrize("text", FAULTS)
def test_fault_is_said_with_its_line(text, read):
    line, words = FAULTS[text]
    ((number, message),) = read(text)
    assert number == line
    assert_names(message, *words)


def test_all_faults_are_said_at_once_in_the_order_of_lines(read):
    text = "fit:\n  hiden: 1\n  tau: 0\n  gain: 1\n  gain: 2\nread:\n  sectors: 1\n  emg: x\n"
    faults = read(text)
    assert [number for number, _ in faults] == [2, 3, 5, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"fit:\n  tau: 2020-13-45\n", b"[" * 3000])
def test_what_cannot_be_read_at_all_is_refused(content, tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=names(path, "YAML")):
        read_config(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "read:\nfit:\n", "fit: {}\n", "\ufefffit: {}\n"])
def test_nothing_is_the_defaults(text, tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_config(path) == JobConfig()


def list_settings():
    for section, field in JobConfig.model_fields.items():
        assert issubclass(field.annotation, BaseModel)
        for name, setting in field.annotation.model_fields.items():
            yield section, name, setting


def test_written_configuration_has_every_setting_its_default_and_its_meaning(run_cli, tmp_path):
    finished = run_cli("--quiet", "config")
    assert (finished.code, finished.err) == (0, "")
    path = tmp_path / "fit.yaml"
    path.write_text(finished.out)
    assert read_config(path) == JobConfig()
    values = yaml.safe_load(finished.out)
    comments = " ".join(
        re.sub(r"^ *#", "", line).strip() for line in finished.out.splitlines() if "#" in line
    )
    n_settings = 0
    for section, name, setting in list_settings():
        n_settings += 1
        default = setting.default
        assert values[section][name] == (list(default) if isinstance(default, tuple) else default), name
        assert setting.description in comments, name
    assert n_settings > 50
    assert max(map(len, finished.out.splitlines())) <= 100


def test_ranges_and_words_are_in_the_comments():
    text = format_config()
    for setting, parts in {"substeps: 1": [1, 100], "nan: raise": ["raise", "mask"]}.items():
        comment = re.search(rf"# ([^\n]*)\n  {setting}\n", text)[1]
        assert_names(comment, *parts)


def test_wrong_values_on_the_command_line_name_setting_and_default(run_cli, tmp_path):
    for option, value, words in [
        ("--set", "tau=-1", ["command line", "tau", "greater than 0", "got -1", 0.1]),
        ("--set", "taw=1", ["command line", "taw", "tau"]),
        ("--set", "tau=2020-13-45", ["--set", "YAML", "'2020-13-45'"]),
        ("--method", "magic", ["method", "'auto', 'gradient' or 'least_squares'", "'magic'"]),
    ]:
        finished = run_cli("fit", "x.nwb", "-o", tmp_path / "fit.nwb", option, value)
        assert finished.code == 2
        assert_names(finished.err, *words)
    finished = run_cli("sweep", "x.nwb", "-o", tmp_path / "sweep", "--vary", "tau=1,[")
    assert finished.code == 2
    assert_names(finished.err, "--vary", "YAML", "'['")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "place", ["read: {outputs: *i}", "read: {map: {emg: *i}}", "fit: {hidden: *i}", "x: *i"]
)
def test_aliases_of_aliases_do_not_grow(place, tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text(BOMB + place)
    with pytest.raises(ConfigError, match=names(path, MAX_VALUES)):
        read_config(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "fit: &a {x: *a}\n",  # without end
        "fit: " + "[" * 200 + "]" * 200,
        "fit: " + "[" * 100_000,
        "#" * (MAX_BYTES + 1),
        "fit: {tau: 0x" + "F" * 5000 + "}",
        "fit: {seeds: 0x" + "F" * 5000 + "}",
        "fit: {tau: " + "9" * 5000 + "}",
        "x: &x [" + "y, " * 90 + "y]\nread:\n  outputs: [" + "*x, " * 90 + "*x]\n",
        "fit:\n" + "".join(f"  setting_{i}: 1\n" for i in range(1000)),
        f"fit: {{{'x' * 100_000}: 1}}",
    ],
)
def test_a_file_beyond_all_limits_is_refused_in_few_words(text, tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=names(path)) as caught:
        read_config(path)
    assert len(str(caught.value)) < 30 * MAX_SHOWN


def test_an_alias_may_repeat_a_value(tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text("read: {condition: &c target, align_to: *c}\n")
    assert read_config(path).read.align_to == "target"


@pytest.mark.parametrize("model", [ReadConfig, FitConfig, SweepConfig, TeacherConfig])
def test_no_whole_number_is_without_a_limit(model):
    for name, field in model.model_fields.items():
        if field.annotation in (int, int | None):
            with pytest.raises(ConfigError, match=name):
                parse_settings(model, {name: 2**70}, source="test")
            with pytest.raises(ConfigError, match=name):
                parse_settings(model, {name: -1}, source="test")
