"""read_nwb and doctor on what laboratories really write: names, codes, clocks, shapes and ids."""

import json
import warnings
from types import SimpleNamespace

import h5py
import layouts
import numpy as np
import pytest
from layouts import average, count, create_series, create_values
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents, BehavioralTimeSeries

import nwbrnn
from nwbrnn.errors import ConfigError, MissingDataError, ReadError
from nwbrnn.readers.doctor import diagnose
from tests.messages import assert_names

pytestmark = pytest.mark.slow

N = 24
DURATION = 50.0
START = 1.0 + 2.0 * np.arange(N)
STOP = START + 1.7
GO = START + 0.5137
DIRECTION = np.tile([0.0, 90.0, 180.0, 270.0], N // 4)
GOOD = np.arange(N) % 4 != 3
WINDOW = (-0.4, 1.0)
RATE = 50.0
STAMPS = np.arange(round(DURATION * RATE)) / RATE
VALUES = create_values(np.random.default_rng(8), STAMPS, 3)
SPIKES = [np.sort(np.random.default_rng(u).uniform(0, DURATION, 500)) for u in range(4)]


def create_file(*, spikes=SPIKES, trials=None, emg=True, shift=0.0, **units):
    """Return a session of 24 reaches; ``trials`` are columns beside or instead of cue and direction."""
    nwbfile = layouts.create_file()
    if emg:
        timing = {"unit": "mV", "rate": RATE, "starting_time": shift}
        nwbfile.add_acquisition(create_series("EMG", VALUES, **timing))
    if spikes is not None:
        layouts.add_units(nwbfile, [train + shift for train in spikes], **units)
    columns = {"go_cue_time": GO + shift, "target_dir": DIRECTION} | (trials or {})
    columns = {name: values for name, values in columns.items() if values is not None}
    layouts.add_trials(nwbfile, SimpleNamespace(start=START + shift, stop=STOP + shift), columns)
    return nwbfile


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a file and reads it."""

    def make(nwbfile, **settings):
        layouts.write(nwbfile, tmp_path / "session.nwb")
        return nwbrnn.read_nwb(tmp_path / "session.nwb", **({"window": WINDOW} | settings))

    return make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.nwb"


def get_edges(align=GO, *, bin_size=0.02):
    n_bins = round((WINDOW[1] - WINDOW[0]) / bin_size)
    return align[:, np.newaxis] + WINDOW[0] + np.arange(n_bins + 1) * bin_size


def get_choices(ds, role):
    return [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]


def get_picked(ds, role):
    (choice,) = get_choices(ds, role)
    return choice["picked"]


def find_rules(path):
    return {finding.rule: finding for finding in diagnose(path)}


# series of one channel each


def add_muscles(nwbfile, *muscles, where="EMG"):
    """Add a container of series, by name, data and timing."""
    container = BehavioralTimeSeries(name=where)
    for name, data, timing in muscles:
        container.add_timeseries(create_series(name, data, unit="mV", **timing))
    layouts.add_to(nwbfile, "behavior", container)


@pytest.mark.parametrize("other", [1, 0.4, "start"])
def test_each_muscle_has_its_own_clock(read, other):
    """They agree in length, first and last stamp, or in nothing; frames were lost in different places."""
    kept = [np.ones(len(STAMPS), dtype=bool) for _ in range(2)]
    kept[0][600:640] = False
    kept[1][1700 : 1740 if other == 1 else 1716] = False
    if other == "start":
        kept[1][:77] = False
    muscles = [
        (name, VALUES[k, i], {"timestamps": STAMPS[k]})
        for i, (name, k) in enumerate(zip(("biceps", "triceps"), kept, strict=True))
    ]
    nwbfile = create_file(emg=False)
    add_muscles(nwbfile, *muscles)
    ds = read(nwbfile)
    assert ds["output"].values.tolist() == ["biceps", "triceps"]
    assert get_picked(ds, "outputs") == "processing/behavior/EMG"
    expected = np.concatenate(
        [
            average(VALUES[k, i : i + 1], STAMPS[k] + 0.01, get_edges(), bin_size=0.02)
            for i, k in enumerate(kept)
        ],
        axis=2,
    )
    mask = np.isfinite(expected).all(axis=2)
    assert 0 < (~mask).sum() < 100
    np.testing.assert_array_equal(ds["mask"], mask)
    np.testing.assert_allclose(ds["outputs"].values[mask], expected[mask], rtol=1e-6)


@pytest.mark.parametrize("shape", ["n", "n x 1", "longer", "mixed"])
@pytest.mark.parametrize("place", ["container", "module"])
def test_no_muscle_is_dropped_for_its_shape(read, shape, place):
    data = [VALUES[:, i] for i in range(3)]
    if shape != "n":
        data[0] = data[0][:, np.newaxis]
    if shape in ("n x 1", "mixed"):
        data[2] = data[2][:, np.newaxis]
    if shape in ("longer", "mixed"):
        data[1] = np.append(data[1], 0.5)
    nwbfile = create_file(emg=False)
    names = ("flexor", "rectus_femoris", "tibialis")
    muscles = [(name, one, {"rate": RATE}) for name, one in zip(names, data, strict=True)]
    if place == "container":
        add_muscles(nwbfile, *muscles)
    else:
        for name, one, timing in muscles:
            nwbfile.add_acquisition(create_series(f"EMG_{name}", one, unit="mV", **timing))
    ds = read(nwbfile)
    assert ds["output"].values.tolist() == list(names)
    expected = average(VALUES, STAMPS + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-6)


def test_versions_of_muscles_are_signals_of_their_own(read):
    nwbfile = create_file(emg=False)
    muscles = [("biceps", 0), ("biceps_raw", 1), ("triceps", 1), ("triceps_raw", 2)]
    add_muscles(nwbfile, *((name, VALUES[:, i], {"rate": RATE}) for name, i in muscles))
    ds = read(nwbfile)
    assert ds["output"].values.tolist() == ["biceps", "triceps"]
    (choice,) = get_choices(ds, "outputs")
    assert choice["alternatives"] == ["processing/behavior/EMG/EMG*raw"]


def test_series_of_several_columns_beside_one_of_a_single_column(read):
    nwbfile = create_file(emg=False)
    muscles = [("elbow_angle", VALUES[:, 0], {"rate": RATE}), ("hand_vel", VALUES[:, 1:], {"rate": RATE})]
    add_muscles(nwbfile, *muscles, where="kinematics")
    ds = read(nwbfile)
    assert ds["output"].values.tolist() == ["hand_vel_0", "hand_vel_1"]
    expected = average(VALUES[:, 1:], STAMPS + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-6)
    both = read(nwbfile, map={"kinematics": "processing/behavior/kinematics"})
    assert sorted(both["output"].values.tolist()) == ["elbow_angle", "hand_vel_0", "hand_vel_1"]


# roles


@pytest.mark.parametrize(
    ("module", "names", "outputs"),
    [
        ("emg_and_kinematics", {"hand_vel": 2, "muscles": 2}, ["muscles_0", "muscles_1"]),
        ("emg_and_kinematics", {"x_vel": 1, "y_vel": 1}, ["x_vel", "y_vel"]),
        ("behavior", {"x_pos": 1, "y_pos": 1, "x_vel": 1, "y_vel": 1}, ["x_vel", "y_vel"]),
        ("muscles", {"biceps": 1, "triceps": 1}, ["biceps", "triceps"]),
        ("muscles", {"wrist_flexor": 1, "wrist_extensor": 1}, ["wrist_extensor", "wrist_flexor"]),
        ("eye_and_hand", {"eye_pos": 2, "hand_pos": 2}, ["hand_pos_0", "hand_pos_1"]),
    ],
)
def test_role_by_own_name_before_the_module(read, module, names, outputs):
    nwbfile = create_file(emg=False)
    for name, width in names.items():
        layouts.add_to(nwbfile, module, create_series(name, VALUES[:, :width], unit="mV", rate=RATE))
    assert read(nwbfile)["output"].values.tolist() == outputs


def test_position_of_the_eye_is_no_output(read):
    nwbfile = create_file(emg=False)
    add_muscles(nwbfile, ("position", VALUES[:, :2], {"rate": RATE}), where="EyeTracking")
    with pytest.raises(MissingDataError, match="EyeTracking/position"):
        read(nwbfile)


def test_role_by_type(read):
    class EMGSeries(TimeSeries):
        """A type that an extension could define."""

    from nwbrnn.readers.discovery import find_signals

    nwbfile = layouts.create_file()
    nwbfile.add_acquisition(EMGSeries(name="wires", data=VALUES, unit="V", rate=RATE))
    (signal,) = find_signals(nwbfile)
    assert (signal.path, signal.role) == ("acquisition/wires", "emg")


# events


def add_line(nwbfile, name, times, values, *, column="edge"):
    from pynwb.event import EventsTable

    table = EventsTable(name=name, description=name)
    table.add_column(name=column, description=column)
    for i in np.argsort(times, kind="stable"):
        table.add_row(timestamp=float(times[i]), **{column: values[i]})
    nwbfile.add_events_table(table)


@pytest.mark.parametrize(
    ("column", "up", "down"), [("edge", "rising", "falling"), ("state", 1, 0), ("value", True, False)]
)
def test_only_rises_of_a_line_are_events_and_lines_keep_their_names(read, column, up, down):
    nwbfile = create_file(trials={"go_cue_time": None})
    for name, rises in (("go_cue", GO), ("reward", STOP - 0.3)):
        times = np.concatenate([rises, rises - 0.2])
        add_line(nwbfile, name, times, [up] * N + [down] * N, column=column)
    ds = read(nwbfile)
    assert get_picked(ds, "align_to") == "go_cue"
    np.testing.assert_allclose(ds["align_time"], GO)
    np.testing.assert_allclose(ds["reward"], STOP - 0.3)


def test_falls_of_a_sampled_line_are_no_events(read):
    nwbfile = create_file(trials={"go_cue_time": None})
    times = np.sort(np.concatenate([GO - 0.3, GO]))  # it falls, then rises
    line = create_series("go_cue", np.tile([0, 1], N), unit="n/a", timestamps=times)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynwb: make tables of events instead
        layouts.add_to(nwbfile, "behavior", BehavioralEvents(name="events", time_series=line))
    np.testing.assert_allclose(read(nwbfile)["align_time"], GO)


def test_equal_labels_of_two_tables_are_two_kinds(read):
    nwbfile = create_file()
    add_line(nwbfile, "door", np.concatenate([GO, GO + 0.1]), ["open"] * N + ["shut"] * N, column="what")
    add_line(
        nwbfile, "valve", np.concatenate([GO + 0.2, GO + 0.3]), ["open"] * N + ["shut"] * N, column="what"
    )
    ds = read(nwbfile)
    for name, delay in (("door_open", 0.0), ("door_shut", 0.1), ("valve_open", 0.2), ("valve_shut", 0.3)):
        np.testing.assert_allclose(ds[name] - GO, delay, atol=1e-6)


# columns


@pytest.mark.parametrize(
    "codes", [np.tile([1.0, -1, 2, -2, 3, -3], 4), np.arange(N) % 8, 1 + np.arange(N) % 4]
)
def test_codes_of_targets_are_no_angles(read, path, codes):
    ds = read(create_file(trials={"target_dir": codes}))
    labels = [f"{c:g}" for c in codes]
    assert ds["condition"].values.tolist() == labels
    names = [f"target_dir={label}" for label in sorted(set(labels))]
    assert ds["input"].values.tolist() == [*names, "go_cue"]
    assert find_rules(path)["directions_coded"].object == "intervals/trials/target_dir"


@pytest.mark.parametrize(
    ("angles", "unit"),
    [
        ([0, 45, 90, 135, 180, 225, 270, 315], 360),
        ([-135, -90, -45, 0, 45, 90, 135, 180], 360),
        ([0, 180], 360),
        (np.arange(8) * np.pi / 4, 2 * np.pi),
        ([0, np.pi / 2, np.pi, -np.pi / 2], 2 * np.pi),
    ],
)
def test_angles_that_span_a_circle_are_cosine_and_sine(read, path, angles, unit):
    column = np.resize(np.array(angles, dtype=float), N)
    ds = read(create_file(trials={"target_dir": column}))
    turns = 2 * np.pi * column / unit
    np.testing.assert_allclose(ds["inputs"].values[:, 0, 0], np.cos(turns), atol=1e-6)
    np.testing.assert_allclose(ds["inputs"].values[:, 0, 1], np.sin(turns), atol=1e-6)
    assert "directions_coded" not in find_rules(path)


@pytest.mark.filterwarnings("ignore:EnumData is experimental")
def test_enumerated_columns_are_what_their_codes_stand_for(read):
    nwbfile = create_file(trials={"target_dir": None})
    words = ["up", "left", "down"]
    nwbfile.trials.add_column(name="target_dir", description="x", data=list(np.arange(N) % 3), enum=words)
    ds = read(nwbfile)
    assert ds["condition"].values.tolist() == [words[i % 3] for i in range(N)]
    assert ds["input"].values.tolist()[:3] == ["target_dir=down", "target_dir=left", "target_dir=up"]


def reshape(path, *columns):
    with h5py.File(path, "a") as file:
        for name in columns:
            old = file["intervals/trials"][name]
            attrs, values = dict(old.attrs), old[:]
            del file["intervals/trials"][name]
            new = file["intervals/trials"].create_dataset(name, data=values[:, np.newaxis])
            new.attrs.update(attrs)


def test_columns_of_width_one_change_nothing(read, path):
    nwbfile = create_file(trials={"success": GOOD, "target_on_time": GO - 0.3})
    plain = read(nwbfile)
    assert plain.sizes["trial"] == GOOD.sum()
    reshape(path, "go_cue_time", "target_dir", "success", "target_on_time", "start_time", "stop_time")
    wide = nwbrnn.read_nwb(path, window=WINDOW)
    for name in (*plain.data_vars, *plain.coords):
        np.testing.assert_array_equal(plain[name], wide[name])
    assert set(wide.coords) == set(plain.coords)


def test_times_of_trials_that_are_several_are_refused_by_name(read, path):
    read(create_file())
    with h5py.File(path, "a") as file:
        table = file["intervals/trials"]
        attrs, values = dict(table["start_time"].attrs), table["start_time"][:]
        del table["start_time"]
        table.create_dataset("start_time", data=np.stack([values, values], axis=1)).attrs.update(attrs)
    with pytest.raises(ReadError, match=r"intervals/trials/start_time.*\(24, 2\)"):
        nwbrnn.read_nwb(path)


def test_no_column_hides_another(read):
    numbers = {
        name: i + 10 * np.arange(N) for i, name in enumerate(("time", "trial_time", "hold time", "hold_time"))
    }
    words = {"condition": np.where(GOOD, "a", "b"), "trial_condition": np.where(GOOD, "c", "d")}
    depth = {"depth": np.arange(4.0), "unit_depth": 10.0 * np.arange(4)}
    ds = read(create_file(trials=numbers | words, **depth), condition="target_dir")
    of_trials = [ds[name].values.tolist() for name in ds.coords if ds[name].dims == ("trial",)]
    for values in (numbers | words).values():
        assert values.tolist() in of_trials
    of_units = [ds[name].values.tolist() for name in ds.coords if ds[name].dims == ("unit",)]
    assert [depth["depth"].tolist() in of_units, depth["unit_depth"].tolist() in of_units] == [True, True]
    assert read(create_file(**depth), units={"depth": "3"})["unit"].values.tolist() == [3]
    assert read(create_file(**depth), units={"unit_depth": "30"})["unit"].values.tolist() == [3]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("outcome", "Success", "Failure"),
        ("outcome", "Hit", "Miss"),
        ("result", "Reward", "Abort"),
        ("success", "TRUE", "FALSE"),
        ("Result", "R", "F"),
        ("result", "R ", "F "),
        ("result", "r", "f"),
        ("result", 1, 0),
        ("result", 82, 70),
        ("trialOutcome", "success", "early lick"),
        ("is_correct", True, False),
        ("correct", 1.0, 0.0),
        ("discard_trial", "no", "yes"),
    ],
)
def test_outcomes_by_a_vocabulary(read, name, good, bad):
    ds = read(create_file(trials={name: np.where(GOOD, good, bad)}))
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(GOOD))
    assert get_picked(ds, "trials").startswith(
        f"{name} = {good:g} (18" if isinstance(good, float) else f"{name} = {str(good).strip()} (18"
    )


def test_outcomes_that_are_unknown_are_reported(read, path):
    ds = read(create_file(trials={"outcome": np.where(GOOD, "Q7", "Z9")}))
    assert ds.sizes["trial"] == N
    (choice,) = get_choices(ds, "trials")
    assert "outcome holds Q7, Z9" in choice["reason"]
    assert find_rules(path)["outcomes_unknown"].object == "intervals/trials/outcome"


def test_directions_and_words_of_equal_meaning_are_one_condition(read):
    nearly = DIRECTION + np.where(np.arange(N) == 4, 1.6e-28, 0) + np.where(np.arange(N) == 8, 360, 0)
    nearly[3] = -90.0
    nearly[5] = 90.00002
    ds = read(create_file(trials={"target_dir": nearly}))
    assert ds["condition"].values.tolist() == [f"{d:g}" for d in DIRECTION]
    words = np.array(["left", "right"])[np.arange(N) % 2]
    spelled = words.astype(object)
    spelled[[1, 2, 4]] = ["RIGHT", " left", "Left "]
    ds = read(create_file(trials={"target_dir": None, "trial_type": spelled}))
    assert len(set(ds["condition"].values.tolist())) == 2
    np.testing.assert_array_equal(ds["condition"].values == ds["condition"].values[0], words == "left")
    assert ds.sizes["input"] == 3


def test_cue_that_is_nan_throughout_gives_way_to_the_next_event(read):
    trials = {"go_cue_time": np.full(N, np.nan), "target_on_time": GO}
    ds = read(create_file(trials=trials))
    assert get_picked(ds, "align_to") == "target_on_time"
    np.testing.assert_allclose(ds["align_time"], GO)
    assert "go_cue_time" in get_choices(ds, "align_to")[0]["reason"]


# clocks


def test_clock_since_1970_gives_the_same(read):
    """Events, samples and spikes on grids of 1 ms and 1/30000 s, with many spikes on the edges of bins."""
    rng = np.random.default_rng(2)
    spikes = [
        np.unique(rng.integers(0, 50_000, 3000)) / 1000,
        np.unique(rng.integers(0, 1_500_000, 3000)) / 30_000,
    ]
    events = {"go_cue_time": START + 0.5, "target_on_time": START + 0.3}
    read_with = {"window": None}
    zero = read(create_file(spikes=spikes, trials=events), **read_with)
    shift = 1.6e9
    later = {name: times + shift for name, times in events.items()}
    unix = read(create_file(spikes=spikes, trials=later, shift=shift), **read_with)
    assert zero.sizes == unix.sizes
    for name in (*zero.data_vars, "time", "condition"):
        np.testing.assert_array_equal(zero[name], unix[name], err_msg=name)
    np.testing.assert_allclose(unix["align_time"] - shift, zero["align_time"], atol=1e-6)
    assert [c for c in json.loads(zero.attrs["choices"]) if c["role"] == "window"] == [
        c for c in json.loads(unix.attrs["choices"]) if c["role"] == "window"
    ]


def test_whole_trials_since_1970_lose_no_bin(read):
    settings = {"window": "trial", "align_to": "start_time"}
    zero = read(create_file(), **settings)
    unix = read(create_file(shift=1.6e9, trials={"go_cue_time": GO + 1.6e9}), **settings)
    assert zero.sizes == unix.sizes
    np.testing.assert_array_equal(zero["mask"], unix["mask"])


@pytest.mark.parametrize(("factor", "word"), [(1000.0, "milliseconds"), (30_000.0, "numbers of samples")])
def test_spikes_that_are_not_in_seconds(read, path, factor, word):
    ds = read(create_file(spikes=[s * factor for s in SPIKES]))
    (choice,) = get_choices(ds, "clocks")
    assert word in choice["reason"]
    finding = find_rules(path)["clocks"]
    assert (finding.object, finding.biases) == ("units/spike_times", True)
    assert word in finding.problem


def test_stamps_that_are_numbers_of_frames(read, path):
    nwbfile = create_file(emg=False)
    nwbfile.add_acquisition(create_series("EMG", VALUES, unit="mV", timestamps=np.arange(len(VALUES)) * 1.0))
    with pytest.raises(ConfigError, match="acquisition/EMG"):
        read(nwbfile)
    finding = find_rules(path)["clocks"]
    assert (finding.object, finding.biases) == ("acquisition/EMG", True)
    assert "frames" in finding.problem


def test_clocks_that_agree_are_not_reported(read, path):
    ds = read(create_file())
    assert not get_choices(ds, "clocks")
    assert not diagnose(path)


@pytest.mark.parametrize("bad", [slice(-5, None), slice(1200, 1205), slice(0, 5)])
def test_a_few_stamps_of_zero_cost_their_samples(read, bad):
    stamps = STAMPS + 3.0  # so that zeros at the beginning are early, too
    stamps[bad] = 0.0
    nwbfile = create_file(emg=False)
    nwbfile.add_acquisition(create_series("EMG", VALUES, unit="mV", timestamps=stamps))
    ds = read(nwbfile, window=(-0.4, 1.0))
    kept = np.ones(len(stamps), dtype=bool)
    kept[bad] = bad.start == 0  # equal stamps in order are fine
    expected = average(VALUES[kept], stamps[kept] + 0.01, get_edges(GO[1:]), bin_size=0.02)
    np.testing.assert_array_equal(ds["trial"], np.arange(1, N))  # before 3 s nothing was recorded
    np.testing.assert_array_equal(ds["mask"], np.isfinite(expected).all(axis=2))
    assert (~ds["mask"].values).sum() <= 20


def test_steps_that_vary(read, path):
    """A clock whose steps are skewed: its mean step is 44 ms, most are near 38."""
    rng = np.random.default_rng(0)
    steps = 0.03 + rng.gamma(2.0, 0.007, 1100)
    stamps = np.cumsum(steps)
    nwbfile = create_file(emg=False)
    values = create_values(rng, stamps, 2)
    nwbfile.add_acquisition(create_series("EMG", values, unit="mV", timestamps=stamps))
    ds = read(nwbfile)
    step = ds.attrs["bin_size"] / 2
    assert step == pytest.approx(steps.mean(), rel=0.02)
    assert ds["mask"].values.mean() > 0.99
    assert "steps_varying" in find_rules(path)
    (signal,) = nwbrnn.inspect_nwb(path).signals
    assert signal["varies"]
    assert signal["interval"] == pytest.approx(steps.mean(), rel=0.02)


@pytest.mark.parametrize("resolution", [1 / 30, 30_000.0, 0.05])
def test_resolution_that_spikes_do_not_have_is_not_used(read, path, resolution):
    nwbfile = create_file()
    nwbfile.units.resolution = resolution
    ds = read(nwbfile)
    assert ds.attrs["bin_size"] == 0.02
    np.testing.assert_allclose(ds["align_time"], GO, atol=1e-9)
    np.testing.assert_array_equal(ds["spike_counts"], count(SPIKES, get_edges()))
    assert "units.resolution" in get_picked(ds, "resolution")


# units


@pytest.mark.slow
def test_ids_are_coordinates_to_select_by(read, tmp_path):
    ids = [17, 3, 42, 8]
    nwbfile = create_file(spikes=None)
    for one, train in zip(ids, SPIKES, strict=True):
        nwbfile.add_unit(spike_times=train, id=one)
    nwbfile.trials.id.data[:] = [100 + i for i in range(N)]
    ds = read(nwbfile)
    assert ds["unit_id"].values.tolist() == ids
    assert ds["trial_id"].values.tolist() == [100 + i for i in range(N)]
    assert read(nwbfile, units={"id": "42,17"})["unit"].values.tolist() == [0, 2]
    assert read(nwbfile, units={"id!": "3"})["unit_id"].values.tolist() == [17, 42, 8]
    assert read(nwbfile, units={"row": "1,2"})["unit_id"].values.tolist() == [3, 42]
    assert read(nwbfile, where={"id!": "100,101"})["trial"].values.tolist() == list(range(2, N))
    result = nwbrnn.fit(ds, epochs=1, hidden=8, sampled=2, min_rate=0, seed=1)
    nwbrnn.write_fit(result, tmp_path / "session.nwb", tmp_path / "fit.nwb")
    with h5py.File(tmp_path / "fit.nwb") as file:
        assert file["units/id"][:].tolist() == ids
        ends = file["units/spike_times_index"][:].tolist()
    assert np.diff([0, *ends]).tolist() == [len(s) for s in SPIKES]


def test_channels_by_number_and_without_some(read):
    nwbfile = create_file()
    assert read(nwbfile, channels=("2", "EMG_0"))["output"].values.tolist() == ["EMG_0", "EMG_2"]
    assert read(nwbfile, channels=("!EMG_1",))["output"].values.tolist() == ["EMG_0", "EMG_2"]
    with pytest.raises(ConfigError, match=r"channels.*EMG_7"):
        read(nwbfile, channels=("!EMG_7",))


def create_areas(path, *, electrodes):
    nwbfile = create_file(spikes=None)
    layouts.add_areas(nwbfile, n_electrodes=2)
    layouts.add_units(nwbfile, SPIKES, electrodes=electrodes)
    layouts.write(nwbfile, path)


def test_a_unit_without_electrode_takes_no_area_from_others(path):
    create_areas(path, electrodes=[[0], [], [3], [2]])
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds["unit_location"].values.tolist() == ["M1", "", "PMd", "PMd"]
    assert nwbrnn.read_nwb(path, window=WINDOW, units={"location": "PMd"})["unit"].values.tolist() == [2, 3]


def test_electrodes_without_an_index(path):
    create_areas(path, electrodes=[[0], [1], [3], [2]])
    with h5py.File(path, "a") as file:
        del file["units/electrodes_index"]
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds["unit_location"].values.tolist() == ["M1", "M1", "PMd", "PMd"]


def test_own_location_wins_over_that_of_the_group(path):
    nwbfile = create_file(spikes=None)
    groups = layouts.add_areas(nwbfile)
    own = ["a", "b", "a", "b"]
    layouts.add_units(nwbfile, SPIKES, electrode_group=[groups[0]] * 4, location=own)
    layouts.write(nwbfile, path)
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds["unit_location"].values.tolist() == own
    assert ds["unit_group_location"].values.tolist() == ["M1"] * 4
    assert nwbrnn.read_nwb(path, window=WINDOW, units={"location": "b"})["unit"].values.tolist() == [1, 3]


def test_units_in_a_module(read):
    from pynwb.misc import Units

    table = Units(name="sorted", description="x")
    for train in SPIKES:
        table.add_unit(spike_times=train)
    nwbfile = create_file(spikes=None)
    layouts.add_to(nwbfile, "ecephys", table)
    ds = read(nwbfile)
    np.testing.assert_array_equal(ds["spike_counts"], count(SPIKES, get_edges()))
    assert get_picked(ds, "rates").startswith("processing/ecephys/sorted/spike_times")


def test_faults_of_units_in_a_module_name_their_path(read, path):
    from pynwb.misc import Units

    table = Units(name="sorted", description="x", resolution=0.05)
    for train in (*SPIKES, SPIKES[0]):
        table.add_unit(spike_times=train)
    nwbfile = create_file(spikes=None)
    layouts.add_to(nwbfile, "ecephys", table)
    read(nwbfile)
    where, found = "processing/ecephys/sorted", find_rules(path)
    assert found["units_twice"].object == where
    assert found["resolution"].object == f"{where}.resolution"


def test_several_series_of_rates(read):
    nwbfile = create_file(spikes=None)
    for i, name in enumerate("AB"):
        nwbfile.add_acquisition(create_series(name, 20 + VALUES[:, i : i + 2], unit="Hz", rate=RATE))
    ds = read(nwbfile, map={"rates": "acquisition/A,acquisition/B"})
    expected = average(20 + VALUES[:, [0, 1, 1, 2]], STAMPS + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["rates"], expected, rtol=1e-6)


@pytest.mark.slow
def test_given_rates_may_be_of_other_units_than_those_of_the_table(read, tmp_path):
    nwbfile = create_file()  # of 4 units
    for i, name in enumerate("AB"):
        nwbfile.add_acquisition(create_series(name, 20 + VALUES[:, [i]], unit="Hz", rate=RATE))
    ds = read(nwbfile, map={"rates": "acquisition/A,acquisition/B"})
    expected = average(20 + VALUES[:, :2], STAMPS + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["rates"], expected, rtol=1e-6)
    assert not {"spike_counts", "unit_id"} & set(ds.variables)
    (choice,) = get_choices(ds, "rates")
    assert_names(choice["reason"], "2", "4", "units")
    result = nwbrnn.fit(ds, epochs=1, hidden=8, sampled=1, min_rate=0)
    path = nwbrnn.write_fit(result, tmp_path / "session.nwb", tmp_path / "fit.nwb")
    assert nwbrnn.read_fit(path).recorded["unit"].values.tolist() == [0, 1]
    with h5py.File(path) as file:
        assert "units" not in file


# series that cannot be read


@pytest.mark.parametrize("shape", ["three", "transposed", "transposed and stamped"])
def test_shapes_that_are_wrong_are_named(read, path, shape):
    timing = {"timestamps": STAMPS[:2400]} if shape.endswith("stamped") else {"rate": RATE}
    nwbfile = create_file(emg=False)
    nwbfile.add_acquisition(create_series("EMG", VALUES[:2400], unit="mV", **timing))
    read(nwbfile)
    with h5py.File(path, "a") as file:
        group = file["acquisition/EMG"]
        attrs, values = dict(group["data"].attrs), group["data"][:]
        del group["data"]
        values = values.reshape(N, 100, 3) if shape == "three" else values.T
        group.create_dataset("data", data=values).attrs.update(attrs)
    with pytest.raises((ReadError, MissingDataError), match=r"acquisition/EMG: .*shape \("):
        nwbrnn.read_nwb(path)
    finding = find_rules(path)["shape"]
    assert (finding.object, finding.biases) == ("acquisition/EMG", True)
    assert "channels_dead" not in find_rules(path)


@pytest.mark.parametrize("nan", ["raise", "mask"])
def test_a_muscle_of_nan_is_named_with_the_way_to_leave_it_out(read, nan):
    values = VALUES.copy()
    values[:, 1] = np.nan
    nwbfile = create_file(emg=False)
    nwbfile.add_acquisition(create_series("EMG", values, unit="mV", rate=RATE))
    with pytest.raises(ReadError, match=r"acquisition/EMG: EMG_1.*channels.*!EMG_1"):
        read(nwbfile, nan=nan)
    assert read(nwbfile, nan=nan, channels=("!EMG_1",)).sizes["output"] == 2


def test_a_table_of_no_units_is_said_to_have_none(path, read):
    read(create_file())
    with h5py.File(path, "a") as file:
        for name in ("id", "spike_times", "spike_times_index"):
            old = file["units"][name]
            attrs = {k: v for k, v in old.attrs.items() if k != "target"}
            dtype = old.dtype
            del file["units"][name]
            file["units"].create_dataset(name, shape=(0,), dtype=dtype).attrs.update(attrs)
        file["units/spike_times_index"].attrs["target"] = file["units/spike_times"].ref
    with pytest.raises(MissingDataError, match="units has 0 units"):
        nwbrnn.read_nwb(path)
    assert find_rules(path)["units_none"].object == "units"
