"""What must not matter does not: the same session, written in another way, gives the same Dataset."""

import warnings
from dataclasses import dataclass, field, replace

import layouts
import numpy as np
import pytest
from layouts import create_series
from pynwb.behavior import BehavioralTimeSeries

import nwbrnn

pytestmark = pytest.mark.slow

N, DURATION, RATE = 24, 60.0, 100.0
RNG = np.random.default_rng(5)
START = 2.0 + 2.4 * np.arange(N)
MUSCLES = ("FCR", "FCU", "ECR")
STAMPS = np.arange(0, DURATION, 1 / RATE)
COUNTS = RNG.integers(-800, 800, (len(STAMPS), len(MUSCLES)))  # whole, so that any type holds them
CONVERSION = 0.25
SETTINGS = {"window": (-0.4, 0.8), "bin_size": 0.02}


@dataclass(frozen=True)
class Session:
    """What is in the file, and how it is written."""

    values: np.ndarray = field(default_factory=lambda: COUNTS * CONVERSION)
    muscles: tuple[str, ...] = MUSCLES
    spikes: tuple[np.ndarray, ...] = tuple(
        np.sort(np.random.default_rng(u).uniform(0, DURATION, 400 + 100 * u)) for u in range(5)
    )
    unit_ids: tuple[int, ...] = tuple(range(5))
    area: tuple[str, ...] = ("M1", "PMd", "M1", "M1", "PMd")
    rows: np.ndarray = field(default_factory=lambda: np.arange(N))
    direction: np.ndarray = field(default_factory=lambda: np.tile([0.0, 90.0, 180.0, 270.0], N // 4))
    result: np.ndarray = field(default_factory=lambda: np.array(["R", "R", "R", "F", "R"] * 5)[:N])
    shift: float = 0.0
    module: str = ""
    split: str = ""
    dtype: str = "float64"
    enumerated: tuple[str, ...] = ()

    def write(self, path):
        nwbfile = layouts.create_file()
        self._add_emg(nwbfile)
        nwbfile.add_unit_column("location", "area")
        for train, one, area in zip(self.spikes, self.unit_ids, self.area, strict=True):
            nwbfile.add_unit(spike_times=train + self.shift, id=one, location=area)
        self._add_trials(nwbfile)
        layouts.write(nwbfile, path)

    def _add_emg(self, nwbfile):
        is_whole = np.dtype(self.dtype).kind == "i"
        values = np.rint(self.values / CONVERSION) if is_whole else self.values
        options = {
            "unit": "mV", "rate": RATE, "starting_time": self.shift,
            "conversion": CONVERSION if is_whole else 1.0,
        }  # fmt: skip
        data = values.astype(self.dtype)
        if not self.split:
            comments = f"columns=[{','.join(self.muscles)}]"
            members = [create_series("EMG", data, comments=comments, **options)]
        else:
            columns = data.T[..., np.newaxis] if self.split == "n x 1" else data.T
            series = [create_series(n, c, **options) for n, c in zip(self.muscles, columns, strict=True)]
            members = [BehavioralTimeSeries(name="EMG", time_series=series)]
        if self.module:
            layouts.add_to(nwbfile, self.module, *members)
        else:
            nwbfile.add_acquisition(members[0])

    def _add_trials(self, nwbfile):
        cue = START + 0.5 + self.shift
        columns = {"go_cue_time": cue, "target_dir": self.direction, "result": self.result}
        codes = {name: np.unique(columns.pop(name), return_inverse=True) for name in self.enumerated}
        for name in columns:
            nwbfile.add_trial_column(name, name)
        for row in self.rows:
            start = START[row] + self.shift
            plain = {name: values[row] for name, values in columns.items()}
            nwbfile.add_trial(id=int(row), start_time=start, stop_time=start + 2.0, **plain)
        for name, (words, code) in codes.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # EnumData is experimental
                nwbfile.trials.add_column(
                    name=name, description=name, data=code[self.rows].tolist(), enum=words.tolist()
                )


BASE = Session()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "session.nwb"
    BASE.write(path)
    return nwbrnn.read_nwb(path, **SETTINGS)


@pytest.fixture
def read(tmp_path):
    def make(session):
        session.write(tmp_path / "session.nwb")
        assert {f.rule for f in nwbrnn.diagnose(tmp_path / "session.nwb")} == set()
        return nwbrnn.read_nwb(tmp_path / "session.nwb", **SETTINGS)

    return make


def assert_same(found, expected, *, shift=0.0, inputs=True):
    """Compare what was read: trials and units by their ids, outputs by their names."""
    found = found.sortby("trial_id").sortby("unit_id").sortby("output")
    expected = expected.sortby("trial_id").sortby("unit_id").sortby("output")
    for name in ("trial_id", "unit_id", "output", "condition", "unit_location", "result", "output_units"):
        assert found[name].values.tolist() == expected[name].values.tolist(), name
    for name in ("mask", "spike_counts", "time"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name in ("outputs", "rates", *(["inputs"] if inputs else [])):
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-6, atol=1e-5, err_msg=name)
    assert found.sizes["input"] == expected.sizes["input"]
    for name in ("align_time", "start_time", "go_cue_time"):
        np.testing.assert_allclose(found[name] - shift, expected[name], rtol=0, atol=1e-6, err_msg=name)
    assert found.attrs["bin_size"] == expected.attrs["bin_size"]


def test_the_session_is_read(base):
    assert base.sizes["trial"] == (BASE.result == "R").sum()
    assert base["output"].values.tolist() == list(MUSCLES)
    assert base["mask"].values.all()


@pytest.mark.parametrize("shift", [0.005, 1234.5, 1.6e9])
def test_another_clock(base, read, shift):
    assert_same(read(replace(BASE, shift=shift)), base, shift=shift)


@pytest.mark.parametrize("seed", [1, 2])
def test_another_order_of_units(base, read, seed):
    order = np.random.default_rng(seed).permutation(5)
    permuted = replace(
        BASE,
        spikes=tuple(BASE.spikes[i] for i in order),
        unit_ids=tuple(order.tolist()),
        area=tuple(BASE.area[i] for i in order),
    )
    assert_same(read(permuted), base)


@pytest.mark.parametrize("seed", [1, 2])
def test_another_order_of_channels(base, read, seed):
    order = np.random.default_rng(seed).permutation(3)
    muscles = tuple(MUSCLES[i] for i in order)
    assert_same(read(replace(BASE, values=BASE.values[:, order], muscles=muscles)), base)


@pytest.mark.parametrize("seed", [1, 2])
def test_another_order_of_trials(base, tmp_path, seed):
    """The doctor remarks on it, and nothing else."""
    path = tmp_path / "session.nwb"
    replace(BASE, rows=np.random.default_rng(seed).permutation(N)).write(path)
    assert {f.rule for f in nwbrnn.diagnose(path)} == {"trials_unordered"}
    assert_same(nwbrnn.read_nwb(path, **SETTINGS), base)


@pytest.mark.parametrize("split", ["n", "n x 1"])
@pytest.mark.parametrize("module", ["", "behavior"])
def test_a_series_for_each_muscle(base, read, split, module):
    assert_same(read(replace(BASE, split=split, module=module)), base)


@pytest.mark.parametrize("module", ["behavior", "ecephys", "preprocessed", "muscles", "hand_kinematics"])
def test_another_module(base, read, module):
    assert_same(read(replace(BASE, module=module)), base)


@pytest.mark.parametrize("dtype", ["float32", "float16", ">f8", "int16", "int32", "int64"])
def test_another_type_of_values(base, read, dtype):
    assert_same(read(replace(BASE, dtype=dtype)), base)


DIRECTIONS = {
    "n x 1": BASE.direction[:, np.newaxis],
    "float32": BASE.direction.astype(np.float32),
    "int16": BASE.direction.astype(np.int16),
    "uint16": BASE.direction.astype(np.uint16),
}
RESULTS = {
    "n x 1": BASE.result[:, np.newaxis],
    "bytes": BASE.result.astype("S"),
    "objects": BASE.result.astype(object),
}


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_another_layout_of_directions(base, read, kind):
    assert_same(read(replace(BASE, direction=DIRECTIONS[kind])), base)


@pytest.mark.parametrize("kind", RESULTS)
def test_another_layout_of_outcomes(base, read, kind):
    assert_same(read(replace(BASE, result=RESULTS[kind])), base)


@pytest.mark.parametrize("enumerated", [("result",), ("result", "target_dir")])
def test_enumerated_words(base, read, enumerated):
    words = np.array([f"{d:g}" for d in BASE.direction]) if "target_dir" in enumerated else BASE.direction
    found = read(replace(BASE, direction=words, enumerated=enumerated))
    same = found.sizes["input"] == base.sizes["input"]
    assert_same(found, base if same else replace_inputs(base, found), inputs=same)


def test_directions_in_words(base, read):
    found = read(replace(BASE, direction=np.array([f"{d:g}" for d in BASE.direction])))
    same = found.sizes["input"] == base.sizes["input"]
    assert_same(found, base if same else replace_inputs(base, found), inputs=same)


def replace_inputs(base, found):
    """Return a Dataset with the inputs of another: of words they are one-hot, not cosine and sine."""
    return base.drop_dims("input").assign(inputs=found["inputs"])
