"""read_nwb and doctor on layouts that nobody agreed on: rounded clocks, codes, versions of muscles."""

import json
from types import SimpleNamespace

import h5py
import layouts
import numpy as np
import pytest
from layouts import average, compute_envelope, create_series, create_values, suppress_aliases
from pynwb.behavior import BehavioralEpochs, BehavioralEvents, Position, SpatialSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.epoch import TimeIntervals
from pynwb.misc import IntervalSeries

import nwbrnn
from nwbrnn.config import ReadConfig
from nwbrnn.errors import ReadError, UnsupportedFileError
from nwbrnn.readers import pooled
from nwbrnn.readers.clock import Clock
from nwbrnn.readers.doctor import diagnose
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

N = 24
DURATION = 50.0
START = 1.0 + 2.0 * np.arange(N)
STOP = START + 1.7
GO = START + 0.5137
DIRECTION = np.tile([0.0, 90.0, 180.0, 270.0], N // 4)
WINDOW = (-0.4, 1.0)
SPIKES = [np.sort(np.random.default_rng(u).uniform(0, DURATION, 500)) for u in range(4)]


def create_envelope(rate):
    """Return an envelope of two muscles and the start of each sample [s]."""
    stamps = np.arange(round(DURATION * rate)) / rate
    return create_values(np.random.default_rng(8), stamps, 2), stamps


def create_raw(rate):
    """Return raw EMG of two muscles and the start of each sample [s]."""
    values, stamps = create_envelope(rate)
    return values * np.random.default_rng(5).standard_normal(values.shape), stamps


def create_file(*, outputs=None, trials=None, spikes=SPIKES, shift=0.0):
    """Return a session of reaches; ``trials`` are columns beside or, if ``None``, instead of its own."""
    nwbfile = layouts.create_file()
    if outputs is None:
        outputs = [create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)]
    for one in outputs:
        nwbfile.add_acquisition(one)
    if spikes is not None:
        layouts.add_units(nwbfile, [train + shift for train in spikes])
    columns = {"go_cue_time": GO + shift, "target_dir": DIRECTION} | (trials or {})
    columns = {name: values for name, values in columns.items() if values is not None}
    layouts.add_trials(nwbfile, SimpleNamespace(start=START + shift, stop=STOP + shift), columns)
    return nwbfile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.nwb"


@pytest.fixture
def read(path):
    """Return a function that writes a file and reads it."""

    def make(nwbfile, **settings):
        layouts.write(nwbfile, path)
        return nwbrnn.read_nwb(path, **({"window": WINDOW} | settings))

    return make


def get_edges(*, shift=0.0, bin_size=0.02):
    n_bins = round((WINDOW[1] - WINDOW[0]) / bin_size)
    return (GO + shift)[:, np.newaxis] + WINDOW[0] + np.arange(n_bins + 1) * bin_size


def get_choices(ds, role):
    return [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]


def get_picked(ds, role):
    (choice,) = get_choices(ds, role)
    return choice["picked"]


def find_rules(path, **settings):
    return {finding.rule: finding for finding in diagnose(path, **settings)}


# clocks whose stamps are rounded


@pytest.mark.parametrize(
    ("rate", "shift", "kind"),
    [
        (2000.0, 3000.0, "float32"),  # steps of 2 and 3 roundings
        (1000.0, 9000.0, "float32"),  # a step in 41 has 2 roundings
        (1000.0, 20000.0, "float32"),  # two samples share a stamp
        (2000.0, 20000.0, "float32"),  # four do
        (2000.0, 0.0, "ms"),
        (1017.25, 0.0, "ms"),  # a few share a stamp
        (900.0, 0.0, "ms"),  # a step in nine has 2 ms
    ],
)
def test_raw_emg_of_rounded_stamps_has_the_envelope_of_its_rate(read, path, rate, shift, kind):
    raw, stamps = create_raw(rate)
    stored = (stamps + shift).astype("float32") if kind == "float32" else np.round(stamps + shift, 3)
    ds = read(create_file(outputs=[create_series("EMG", raw, unit="mV", timestamps=stored)], shift=shift))
    centres = stamps + 0.5 / rate
    expected = average(compute_envelope(raw, rate), centres, get_edges(), bin_size=0.02)
    assert ds["mask"].values.all()
    # samples may be in the next bin, which costs a hundredth; half the rate would cost more than a tenth
    np.testing.assert_allclose(ds["outputs"], expected, atol=0.02 * expected.max())
    rules = find_rules(path)
    rounding = np.spacing(np.float32(shift + DURATION)) if kind == "float32" else 1e-3
    assert_names(rules["timestamps_rounded"].problem, f"{rounding:.2g}")
    assert not {"timestamps_gaps", "steps_varying"} & rules.keys()
    assert not rules["timestamps_rounded"].biases


@pytest.mark.parametrize(("n", "bin_size"), [(20, 0.02), (50, 0.05)])
def test_raw_emg_that_was_sent_in_packets(read, path, n, bin_size):
    """Samples share the stamp of their packet; without their rate, raw EMG would be averaged."""
    raw, stamps = create_raw(1000.0)
    sent = np.repeat(stamps[::n], n)
    cues = START + 0.5057  # an edge is in the first half of a packet, but not at its beginning
    series = create_series("EMG", raw, unit="mV", timestamps=sent)
    ds = read(create_file(outputs=[series], trials={"go_cue_time": cues}))
    assert ds.attrs["bin_size"] == bin_size
    assert get_choices(ds, "envelope")
    assert ds["mask"].values.all()
    packets = compute_envelope(raw, 1000.0).reshape(-1, n, 2).mean(axis=1)
    edges = get_edges(bin_size=bin_size) + cues[0] - GO[0]
    expected = average(packets, stamps[::n] + n / 2000, edges, bin_size=bin_size)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-5, atol=1e-7)
    rules = find_rules(path)
    assert "timestamps_rounded" in rules
    assert not {"steps_varying", "timestamps_repeated", "timestamps_gaps"} & rules.keys()


def test_a_lost_packet_is_a_gap(read, path):
    raw, stamps = create_raw(1000.0)
    kept = np.ones(len(stamps), dtype=bool)
    kept[12000:12040] = False  # in no stretch that tells the clock
    sent = np.repeat(stamps[::20], 20)[kept]
    read(create_file(outputs=[create_series("EMG", raw[kept], unit="mV", timestamps=sent)]))
    assert_names(find_rules(path)["timestamps_gaps"].problem, "1 gap", "11.98 s")


def test_samples_that_were_written_twice_are_no_packets(read, path):
    values, stamps = create_envelope(50.0)
    plain = read(create_file(outputs=[create_series("EMG", values, unit="mV", timestamps=stamps)]))
    twice = create_series("EMG", np.repeat(values, 2, axis=0), unit="mV", timestamps=np.repeat(stamps, 2))
    ds = read(create_file(outputs=[twice]))
    np.testing.assert_array_equal(ds["outputs"], plain["outputs"])
    rules = find_rules(path)
    assert_names(rules["timestamps_repeated"].problem, len(stamps))
    assert "timestamps_rounded" not in rules


@pytest.mark.parametrize("fault", ["lost", "doubled", "often lost"])
def test_a_recording_of_each_trial_that_lost_a_sample_is_not_rounded(read, path, fault):
    values, stamps = create_envelope(50.0)
    parts = [np.flatnonzero((stamps >= a) & (stamps < b)) for a, b in zip(START, STOP, strict=True)]
    if fault == "lost":
        index = np.concatenate([np.delete(part, 40 + i % 3) for i, part in enumerate(parts)])
    elif fault == "doubled":
        index = np.concatenate([np.insert(part, 40, part[40]) for part in parts])
    else:  # regularly, as if each step were rounded
        index = np.concatenate([np.delete(part, slice(3, None, 7)) for part in parts])
    ds = read(create_file(outputs=[create_series("EMG", values[index], unit="mV", timestamps=stamps[index])]))
    assert ds.attrs["bin_size"] == 0.02
    assert "timestamps_rounded" not in find_rules(path)


@pytest.mark.parametrize("fault", ["lost", "doubled", "swapped"])
def test_a_fault_of_a_short_clock_is_no_rounding(fault):
    stamps = np.arange(90) / 1000
    if fault == "lost":
        stamps = np.delete(stamps, 45)
    elif fault == "doubled":
        stamps = np.insert(stamps, 45, stamps[45])
    else:  # at the border of two packets, where both stamps are near the line
        stamps = np.repeat(np.arange(0.0, 0.4, 0.02), 20)
        stamps[199], stamps[200] = stamps[200], stamps[199]
    series = create_series("EMG", np.arange(len(stamps), dtype=float), unit="mV", timestamps=stamps)
    assert Clock(series).rounding == 0


def test_lost_samples_are_no_rounding(read, path):
    raw, stamps = create_raw(1000.0)
    kept = np.random.default_rng(2).random(len(stamps)) > 0.02
    kept[1:] |= ~kept[:-1]  # one at a time, as if steps of 1 and 2 ms were the rounding of 1.02 ms
    series = create_series("EMG", raw[kept], unit="mV", timestamps=np.round(stamps[kept], 3))
    layouts.write(create_file(outputs=[series]), path)
    rules = find_rules(path, emg="envelope")
    assert_names(rules["timestamps_gaps"].problem, int((~kept).sum()))
    assert "timestamps_rounded" not in rules


# columns of trials


@pytest.mark.parametrize("codes", [(1, -1), (1.0, -1.0), ("1", "-1")])
def test_minus_one_is_no_success(read, codes):
    good = np.arange(N) % 4 != 1
    ds = read(create_file(trials={"outcome": np.where(good, *codes)}))
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(good))
    assert get_picked(ds, "trials").startswith("outcome = 1 (18")


@pytest.mark.parametrize(("name", "bad"), [("aborted", True), ("trial_success", False), ("bad_trial", "yes")])
def test_more_names_of_outcomes(read, name, bad):
    words = {True: (True, False), False: (False, True), "yes": ("yes", "no")}[bad]
    marked = np.arange(N) % 4 == 1
    ds = read(create_file(trials={name: np.where(marked, *words)}))
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(~marked))


@pytest.mark.parametrize(
    "name", ["t_go", "time_go_cue", "goCue_times", "go_cue_on", "go_time_sec", "t_move_onset"]
)
def test_more_names_of_cues(read, name):
    ds = read(create_file(trials={"go_cue_time": None, name: GO}))
    assert get_picked(ds, "align_to") == name
    np.testing.assert_allclose(ds["align_time"], GO)


@pytest.mark.parametrize("names", [("target_x", "target_y"), ("tgt_pos_0", "tgt_pos_1")])
def test_rounding_errors_of_positions_are_no_conditions(read, names):
    noise = np.random.default_rng(1).normal(0, 1e-15, (2, N))
    x, y = 8 * np.array([np.cos(np.deg2rad(DIRECTION)), np.sin(np.deg2rad(DIRECTION))]) + noise
    ds = read(create_file(trials={"target_dir": None, names[0]: x, names[1]: y}))
    assert get_picked(ds, "condition") == ", ".join(names)
    places = np.rint([x, y]).T + 0.0
    expected = [f"{names[0]}={a:.0f}, {names[1]}={b:.0f}" for a, b in places]
    assert ds["condition"].values.tolist() == expected
    assert sorted(ds["input"].values.tolist())[1:] == [f"{n}={v}" for n in names for v in ("-8", "0", "8")]


def test_targets_at_random_places_are_no_conditions(read):
    x, y = np.random.default_rng(3).normal(size=(2, N))
    ds = read(create_file(trials={"target_dir": None, "target_x": x, "target_y": y}))
    assert get_picked(ds, "condition") == "none"
    assert ds.sizes["input"] == 1


def test_an_infinite_value_does_not_merge_the_others(read):
    values = np.tile([1e-9, 2.0, 3.0, np.inf], N // 4)
    ds = read(create_file(trials={"target_dir": None, "condition": values}))
    assert set(ds["condition"].values.tolist()) == {"1e-09", "2", "3", "inf"}


def test_the_radius_of_a_target_is_not_the_target(read):
    x, y = 8 * np.cos(np.deg2rad(DIRECTION)), 8 * np.sin(np.deg2rad(DIRECTION))
    columns = {"target_dir": None, "target_location_0": x, "target_location_1": y}
    ds = read(create_file(trials=columns | {"target_rad": np.repeat([1.0, 1.5], N // 2)}))
    assert get_picked(ds, "condition") == "target_location_0, target_location_1"


def test_cues_in_lists_of_lists_are_not_used(read):
    nwbfile = create_file(trials={"go_cue_time": None, "move_onset_time": GO})
    cues = [[[GO[i]], [GO[i] + 0.1, GO[i] + 0.2]] for i in range(N)]
    nwbfile.trials.add_column("go_cue_time", "in two stages", data=cues, index=2)
    assert get_picked(read(nwbfile), "align_to") == "move_onset_time"


def test_a_cue_that_no_trial_had_is_not_time_0(read):
    ds = read(create_file(trials={"go_cue_time": np.full(N, -1.0), "move_onset_time": GO}))
    assert get_picked(ds, "align_to") == "move_onset_time"
    assert_names(get_choices(ds, "align_to")[0]["reason"], "go_cue_time")


def test_a_direction_that_is_not_the_condition_stays_as_it_is(read):
    stored = np.where(np.arange(N) == 5, -999, DIRECTION.astype(int))
    ds = read(create_file(trials={"target_dir": stored}), condition="id")
    np.testing.assert_array_equal(ds["target_dir"], stored)


@pytest.mark.parametrize("unit", ["degrees", "radians"])
@pytest.mark.parametrize("code", [-1, -999, "none", "-999"])
def test_what_means_no_direction_is_no_angle(read, path, code, unit):
    """-999 degrees would be 81, and -1 degree 359."""
    directions = DIRECTION if unit == "degrees" else np.round(np.deg2rad(DIRECTION), 4)
    stored = np.array([f"{d}" for d in directions]) if isinstance(code, str) else directions.copy()
    stored[[5, 9]] = code
    ds = read(create_file(trials={"target_dir": stored}))
    rule = find_rules(path)["directions_none"]
    assert (rule.object, rule.biases) == ("intervals/trials/target_dir", False)
    assert_names(rule.problem, code, f"2 of {N} trials", "row 5")
    assert "directions_coded" not in find_rules(path)
    (choice,) = get_choices(ds, "condition")
    assert_names(choice["reason"], "2 trials", code)
    known = np.delete(np.arange(N), [5, 9])
    np.testing.assert_array_equal(ds["trial"], known)
    angle = np.deg2rad(DIRECTION[known])
    np.testing.assert_allclose(
        ds["inputs"][:, -1, :2], np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-4
    )
    only = nwbrnn.read_nwb(path, window=WINDOW, where={"target_dir": str(code)}, condition="id")
    np.testing.assert_array_equal(only["trial"], [5, 9])


@pytest.mark.parametrize(
    ("values", "degrees"),
    [
        ([-1, 0, 1, 89, 90, 91, 180, 270], [359, 0, 1, 89, 90, 91, 180, 270]),
        ([-1, 44, 91, 136], [359, 44, 91, 136]),
        ([-90, -1, 0, 90], [270, 359, 0, 90]),
        ([0, 90, 1080, 270], [0, 90, 0, 270]),  # three turns
        ([-1, 90, -1, 90], [359, 90, 359, 90]),  # otherwise all trials would be of one condition
        (["none", "90"], ["none", "90"]),
        ([-1, 0, 2, 4], [-1, 0, 2, 4]),  # codes of targets
        ([-1, 0, 0, 0], [-1, 0, 0, 0]),
        ([-1, 1, -1, 1], [-1, 1, -1, 1]),
    ],
)
def test_minus_one_that_may_be_an_angle_or_a_target_is_one(read, path, values, degrees):
    n = N // len(values)
    ds = read(create_file(trials={"target_dir": np.tile(values, n)}))
    assert ds["condition"].values.tolist() == [f"{d}" for d in degrees] * n
    assert "directions_none" not in find_rules(path)


@pytest.mark.parametrize(("code", "lost"), [(-999.0, True), (-1.0, False)])
def test_any_directions_with_a_code_are_directions(read, code, lost):
    directions = np.append(code, np.random.default_rng(3).uniform(0, 360, N - 1))
    ds = read(create_file(trials={"target_dir": directions}))
    np.testing.assert_array_equal(ds["trial"], np.arange(lost, N))
    angle = np.deg2rad(directions[lost:])
    np.testing.assert_allclose(
        ds["inputs"][:, -1, :2], np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-6
    )


def test_infinity_in_texts_is_no_direction(read):
    texts = np.where(np.arange(N) == 2, "inf", np.char.mod("%g", DIRECTION))
    ds = read(create_file(trials={"target_dir": texts}))
    assert set(ds["condition"].values.tolist()) == {"0", "90", "180", "270", "inf"}


def test_times_and_directions_in_texts_are_numbers(read):
    cues = np.array([f"{t:.4f}" for t in GO])
    cues[3] = ""
    words = {"go_cue_time": cues, "target_dir": [f" {d:g}" for d in DIRECTION]}
    ds = read(create_file(trials=words))
    plain = read(create_file(trials={"go_cue_time": np.where(np.arange(N) == 3, np.nan, GO)}))
    for name in ("outputs", "inputs", "spike_counts", "condition", "align_time"):
        np.testing.assert_array_equal(ds[name], plain[name])
    assert ds.sizes["trial"] == N - 1
    ds = read(create_file(trials={"target_dir": np.where(DIRECTION > 0, "up", "down")}))
    assert set(ds["condition"].values.tolist()) == {"up", "down"}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("code", [-1.0, -9999.0])
def test_a_number_for_no_cue_is_no_time(read, code, relative):
    none = np.arange(N) % 4 == 0
    cues = {"go_cue_time": np.where(none, code, GO - START if relative else GO)}
    shown = {"target_on_time": np.where(none, code, START + 0.1)}
    ds = read(create_file(trials=cues))
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(~none))
    np.testing.assert_allclose(ds["align_time"], GO[~none])
    ds = read(create_file(trials=shown))  # shown throughout, since some trials do not tell when
    assert ds.sizes["trial"] == N
    np.testing.assert_allclose(ds["inputs"][:, 0, 0], np.cos(np.deg2rad(DIRECTION)), atol=1e-6)


def test_of_several_cues_in_a_trial_the_first_is_time_0(read):
    nwbfile = create_file(trials={"go_cue_time": None})
    cues = [[] if i == 2 else [GO[i], GO[i] + 0.3][: 1 + i % 2] for i in range(N)]
    nwbfile.trials.add_column("go_cue_time", "a time, or several", data=cues, index=True)
    ds = read(nwbfile)
    assert get_picked(ds, "align_to") == "go_cue_time"
    np.testing.assert_allclose(ds["align_time"], np.delete(GO, 2))


@pytest.mark.parametrize("single", [True, False])
def test_a_table_of_one_trial_gives_way_to_one_with_cues(read, single):
    nwbfile = create_file()
    if single:
        nwbfile = layouts.create_file()
        nwbfile.add_acquisition(create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0))
        layouts.add_units(nwbfile, SPIKES)
        nwbfile.add_trial(start_time=0.0, stop_time=DURATION)
    reaches = TimeIntervals(name="reaches", description="a row each")
    reaches.add_column("go_cue_time", "of the reach")
    for i in range(N):
        reaches.add_row(start_time=START[i], stop_time=STOP[i], go_cue_time=GO[i] + 0.1)
    nwbfile.add_time_intervals(reaches)
    ds = read(nwbfile)
    assert get_picked(ds, "trial table") == f"intervals/{'reaches' if single else 'trials'} (24 rows)"
    np.testing.assert_allclose(ds["align_time"], GO + 0.1 * single)


# muscles, and what is named like outputs


def add_electrodes(nwbfile, groups, **columns):
    """Add an electrode in each group; return a region of them in reverse order."""
    device = nwbfile.create_device("wires")
    for name in columns:
        nwbfile.add_electrode_column(name, name)
    for i, group in enumerate(groups):
        made = nwbfile.create_electrode_group(group, "fine wires", "arm", device)
        nwbfile.add_electrode(group=made, location="arm", **{name: v[i] for name, v in columns.items()})
    return nwbfile.create_electrode_table_region(list(range(len(groups)))[::-1], "all, last first")


@pytest.mark.parametrize("name", ["EMG", "wires"])
def test_groups_of_electrodes_for_each_muscle_are_one_emg(read, path, name):
    raw, stamps = create_raw(1000.0)
    nwbfile = create_file(outputs=[])
    region = add_electrodes(nwbfile, ["EMG_biceps", "EMG_triceps"])
    stored = np.round(1000 * raw).astype("int16")
    nwbfile.add_acquisition(
        ElectricalSeries(
            name=name, data=stored, electrodes=region, rate=1000.0, starting_time=0.0, conversion=1e-6,
            channel_conversion=[1.0, 3.0], offset=2e-3,
        )
    )  # fmt: skip
    ds = read(nwbfile)
    assert ds["output"].values.tolist() == ["EMG_triceps", "EMG_biceps"]
    values = stored * np.array([1e-6, 3e-6]) + 2e-3
    expected = average(compute_envelope(values, 1000.0), stamps + 0.0005, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-4, atol=1e-9)
    if name == "EMG":  # the path of a group is that of its columns
        for settings in ({"outputs": "acquisition/EMG[EMG_biceps]"}, {"map": {"emg": "EMG[EMG_biceps]"}}):
            one = nwbrnn.read_nwb(path, window=WINDOW, **settings)
            assert one["output"].values.tolist() == ["EMG_biceps"]
            np.testing.assert_array_equal(one["outputs"][..., 0], ds["outputs"][..., 1])


@pytest.mark.parametrize("word", ["env", "smoothed", "normalized", "rms"])
def test_another_version_of_each_muscle_is_not_joined_and_comes_first(read, word):
    (raw, _), (envelope, stamps) = create_raw(1000.0), create_envelope(1000.0)
    outputs = [
        create_series(f"EMG_{muscle}{end}", values[:, i], unit="mV", rate=1000.0)
        for end, values in (("", raw), (f"_{word}", envelope))
        for i, muscle in enumerate(("biceps", "triceps"))
    ]
    ds = read(create_file(outputs=outputs))
    assert ds["output"].values.tolist() == [f"biceps_{word}", f"triceps_{word}"]
    (choice,) = get_choices(ds, "outputs")
    assert choice["alternatives"] == ["acquisition/EMG*"]
    expected = average(suppress_aliases(envelope, 1000.0, 0.02), stamps + 0.0005, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("series", "outputs"),
    [
        ({"EMG_biceps": 1, "EMG_triceps": 1, "EMG_rect_fem": 1}, ["biceps", "triceps", "rect_fem"]),
        ({"EMG_a": 1, "EMG_b": 1, "EMG_rect": 1, "EMG_rect_abdominis": 1}, ["EMG_rect"]),
        ({"hand_velocity": 2, "hand_velocity_norm": 1}, ["hand_velocity_0", "hand_velocity_1"]),
        ({"force": 3, "force_normalized": 1}, ["force_0", "force_1", "force_2"]),
        ({"EMG": 2, "EMG_unprocessed": 2}, ["EMG_0", "EMG_1"]),
        ({"EMG": 2, "EMG_processed": 2}, ["EMG_processed_0", "EMG_processed_1"]),
        ({"EMG_sync": 2}, ["EMG_sync_0", "EMG_sync_1"]),
        ({"EMG_sync": 1}, ["EMG_sync"]),
        ({"hand_position_sync": 2}, ["hand_position_sync_0", "hand_position_sync_1"]),
    ],
)
def test_words_that_may_mean_something_else_choose_nothing(read, series, outputs):
    values, _ = create_envelope(50.0)
    values = np.column_stack([values, values[:, 0]])
    made = [create_series(name, values[:, :n], unit="a.u.", rate=50.0) for name, n in series.items()]
    made = [
        s if n > 1 else create_series(s.name, values[:, 0], unit="a.u.", rate=50.0)
        for s, n in zip(made, series.values(), strict=True)
    ]
    assert sorted(read(create_file(outputs=made))["output"].values.tolist()) == sorted(outputs)


@pytest.mark.filterwarnings("ignore:BehavioralE")
@pytest.mark.parametrize("kind", ["rate", "channels", "stamps"])
def test_samples_in_a_container_of_events_are_read(read, kind):
    values, stamps = create_envelope(50.0)
    clock = {"rate": 50.0} if kind == "rate" else {"timestamps": stamps}
    data = values if kind == "channels" else values[:, 0]
    events = BehavioralEvents(name="BehavioralEvents")
    events.add_timeseries(create_series("hand_velocity", data, unit="m/s", **clock))
    nwbfile = create_file(outputs=[])
    layouts.add_to(nwbfile, "behavior", events)
    ds = read(nwbfile)
    assert get_picked(ds, "outputs").startswith("processing/behavior/BehavioralEvents")
    expected = average(values, stamps + 0.01, get_edges(), bin_size=0.02)[..., : ds.sizes["output"]]
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-5)


def test_a_line_that_synchronizes_devices_is_no_muscle(read):
    values, stamps = create_envelope(50.0)
    line = (stamps % 1 < 0.5).astype(float)
    channels = {"EMG_biceps": values[:, 0], "EMG_triceps": values[:, 1], "EMG_sync": line}
    ds = read(create_file(outputs=[create_series(n, v, unit="V", rate=50.0) for n, v in channels.items()]))
    assert ds["output"].values.tolist() == ["biceps", "triceps"]


@pytest.mark.filterwarnings("ignore:BehavioralE")
def test_events_and_intervals_are_no_outputs(read):
    values, stamps = create_envelope(50.0)
    position = SpatialSeries(name="paw", data=values, reference_frame="table", unit="cm", rate=50.0)
    lifts = BehavioralEvents(name="BehavioralEvents")
    lifts.add_timeseries(create_series("hand_lift", np.ones(N), unit="n.a.", timestamps=GO + 0.2))
    grips = IntervalSeries(
        name="grip", data=np.tile(np.array([1, -1], "int8"), N), timestamps=np.sort(np.append(GO, GO + 0.5))
    )
    nwbfile = create_file(outputs=[])
    layouts.add_to(nwbfile, "behavior", Position(spatial_series=[position]), lifts, BehavioralEpochs(grips))
    ds = read(nwbfile)
    assert get_picked(ds, "outputs") == "processing/behavior/Position/paw"
    np.testing.assert_allclose(
        ds["outputs"], average(values, stamps + 0.01, get_edges(), bin_size=0.02), rtol=1e-5
    )
    np.testing.assert_allclose(ds["hand_lift"], GO + 0.2)


def test_drifting_raw_emg_that_passes_for_an_envelope_is_reported(read, path):
    raw, stamps = create_raw(1000.0)
    drift = 12 * np.sin(2 * np.pi * 0.7 * stamps)[:, np.newaxis]
    read(create_file(outputs=[create_series("EMG", 0.1 * raw + drift, unit="a.u.", rate=1000.0)]))
    rule = find_rules(path)["envelope_negative"]
    assert (rule.object, rule.biases) == ("acquisition/EMG", False)
    assert_names(rule.remedy, "--emg raw")
    assert "envelope_negative" not in find_rules(path, emg="raw")
    for values in (raw, create_envelope(1000.0)[0]):
        read(create_file(outputs=[create_series("EMG", values, unit="a.u.", rate=1000.0)]))
        assert "envelope_negative" not in find_rules(path)


@pytest.mark.parametrize(
    ("text", "stamps"),
    [
        ("stamps are the right edges of the bins", "end"),
        ("time stamps at the end of each 20-ms bin", "end"),
        ("timestamps = bin_end", "end"),
        ("bin_centers", "centre"),
        ("stamps are the midpoints of bins", "centre"),
        ("stamps are the left edges of bins", "start"),
    ],
)
def test_words_for_the_place_of_a_stamp_in_its_bin(read, text, stamps):
    values, times = create_envelope(50.0)
    series = create_series("EMG", values, unit="mV", rate=50.0, description=text)
    ds = read(create_file(outputs=[series]))
    centres = times + {"start": 0.01, "centre": 0.0, "end": -0.01}[stamps]
    expected = average(values, centres, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"], expected, rtol=1e-5)


# neurons


@pytest.mark.parametrize("kind", ["square roots", "smoothed"])
def test_counts_that_are_no_whole_numbers_are_refused(read, path, kind):
    counts = np.random.default_rng(0).poisson(0.8, (2500, 4)).astype(float)
    stored = (
        np.sqrt(counts) if kind == "square roots" else np.convolve(counts[:, 0], [0.25, 0.5, 0.25], "same")
    )
    series = create_series("binned_spikes", stored, unit="1", rate=50.0)
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    nwbfile = create_file(outputs=[emg, series], spikes=None)
    with pytest.raises(ReadError, match=names(path, "acquisition/binned_spikes", "--rates")):
        read(nwbfile)
    assert find_rules(path)["refused"].biases
    ds = nwbrnn.read_nwb(path, window=WINDOW, rates="acquisition/binned_spikes")
    assert "spike_counts" not in ds


@pytest.mark.parametrize("error", [1e-4, 0.1])
def test_counts_with_rounding_errors_are_whole_and_tenths_are_not(read, path, error):
    counts = np.random.default_rng(0).poisson(0.8, (2500, 4))
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    series = create_series("binned_spikes", counts + error, unit="1", rate=50.0)
    nwbfile = create_file(outputs=[emg, series], spikes=None)
    if error == 1e-4:
        expected = average(counts, np.arange(2500) / 50 + 0.01, get_edges(), bin_size=0.02)
        np.testing.assert_array_equal(read(nwbfile)["spike_counts"], expected)
        return
    with pytest.raises(ReadError, match=names(path, "acquisition/binned_spikes", "--rates")):
        read(nwbfile)


def test_rates_of_any_name_are_read(read):
    """The mean was subtracted from each unit; it is no average around an event."""
    rates = np.random.default_rng(0).normal(0, 5, (2500, 4))
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    series = create_series("firing_rate_mean_subtracted", rates, unit="Hz", rate=50.0)
    ds = read(create_file(outputs=[emg, series]))
    assert get_picked(ds, "rates") == "acquisition/firing_rate_mean_subtracted"
    expected = average(rates, np.arange(2500) / 50 + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["rates"], expected, rtol=1e-5)


@pytest.mark.parametrize("fault", [-1.0, 1.5])
def test_the_doctor_reports_what_counts_beside_the_windows_refuse(read, path, fault):
    """Smoothing also reads the bins before the first window."""
    counts = np.random.default_rng(0).poisson(0.8, (2500, 4)).astype(float)
    counts[int((GO[0] + WINDOW[0]) * 50) - 4] = fault
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    nwbfile = create_file(
        outputs=[emg, create_series("binned_spikes", counts, unit="1", rate=50.0)], spikes=None
    )
    with pytest.raises(ReadError, match=names(path, "acquisition/binned_spikes", f"{fault:g}")):
        read(nwbfile)
    rule = find_rules(path, window=WINDOW)["refused"]
    assert_names(rule.object + rule.problem, "acquisition/binned_spikes", f"{fault:g}")


def test_trials_without_a_recording_are_reported(read, path):
    values, _ = create_envelope(50.0)
    ds = read(create_file(outputs=[create_series("EMG", values[:1000], unit="mV", rate=50.0)]))
    assert ds.sizes["trial"] == 10  # up to 20 s
    rule = find_rules(path, window=WINDOW)["trials_unrecorded"]
    assert (rule.object, rule.biases) == ("intervals/trials", False)
    assert_names(rule.problem, 14, "24 trials")


def test_observation_until_infinity_holds_all_spikes(path):
    nwbfile = create_file(spikes=None)
    for train in SPIKES:
        nwbfile.add_unit(spike_times=train, obs_intervals=[[0.0, np.inf]])
    layouts.write(nwbfile, path)
    assert "spikes_unobserved" not in find_rules(path)
    assert nwbrnn.read_nwb(path, window=WINDOW)["mask"].values.all()


def test_counts_with_units_first_are_refused(read, path):
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    counts = np.random.default_rng(0).poisson(0.8, (4, 2500))
    nwbfile = create_file(
        outputs=[emg, create_series("spike_counts", counts, unit="1", rate=50.0)], spikes=None
    )
    with pytest.raises(ReadError, match=names(path, "acquisition/spike_counts", "(4, 2500)", "transposed")):
        read(nwbfile)


@pytest.mark.parametrize("unit", ["Hz", "spikes/s", "spikes per second", "s^-1"])
def test_counts_in_spikes_per_second_are_refused(read, path, unit):
    rates = np.random.default_rng(0).poisson(0.8, (2500, 4)) * 50.0
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    nwbfile = create_file(
        outputs=[emg, create_series("binned_spikes", rates, unit=unit, rate=50.0)], spikes=None
    )
    with pytest.raises(ReadError, match=names(path, "acquisition/binned_spikes", unit, "--rates", "--map")):
        read(nwbfile)
    ds = nwbrnn.read_nwb(path, window=WINDOW, rates="acquisition/binned_spikes")
    expected = average(rates, np.arange(2500) / 50 + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_allclose(ds["rates"], expected, rtol=1e-6)
    ds = nwbrnn.read_nwb(path, window=WINDOW, map={"spike_counts": "acquisition/binned_spikes"})
    np.testing.assert_allclose(ds["spike_counts"], expected, rtol=1e-6)


@pytest.mark.parametrize("unit", ["Hz", "spikes bins^-1", "spikes / bins"])
def test_counts_whose_unit_says_otherwise_are_counts(read, unit):
    counts = np.random.default_rng(0).poisson(0.8, (2500, 4))
    emg = create_series("EMG", create_envelope(50.0)[0], unit="mV", rate=50.0)
    series = create_series("binned_spikes", counts, unit=unit, rate=50.0)
    ds = read(create_file(outputs=[emg, series], spikes=None))
    expected = average(counts, np.arange(2500) / 50 + 0.01, get_edges(), bin_size=0.02)
    np.testing.assert_array_equal(ds["spike_counts"], expected)


def test_an_extension_that_the_file_does_not_hold_is_named(path):
    layouts.write(create_file(), path)
    with h5py.File(path, "r+") as file:
        del file["specifications"], file.attrs[".specloc"]
        file["acquisition/EMG"].attrs["neurodata_type"] = "LabEMG"
        file["acquisition/EMG"].attrs["namespace"] = "ndx-lab"
    for run in (nwbrnn.read_nwb, diagnose, nwbrnn.inspect_nwb):
        with pytest.raises(
            UnsupportedFileError, match=names(path, "acquisition/EMG", "ndx-lab", "cache_spec")
        ):
            run(path)


@pytest.mark.parametrize(
    "name",
    [
        "target_angle_deg",
        "targetDir_rad",
        "movement_dir",
        "target_index",
        "trial_condition",
        "cond",
        "direction_deg",
    ],
)
def test_more_names_of_conditions(read, name):
    values = np.deg2rad(DIRECTION) if name.endswith("rad") else DIRECTION
    if not name.endswith(("deg", "rad", "dir")):
        values = (DIRECTION / 90).astype(int)
    ds = read(create_file(trials={"target_dir": None, name: values}))
    assert get_picked(ds, "condition") == name
    assert len(set(ds["condition"].values.tolist())) == 4
    angle = np.deg2rad(DIRECTION)
    if name.endswith(("deg", "rad", "dir")):
        np.testing.assert_allclose(
            ds["inputs"][:, -1, :2], np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-6
        )


@pytest.mark.parametrize(
    ("gains", "rule", "part"),
    [
        ([1.0, 0.0], "channel_conversion", 0),
        ([np.nan, 1.0], "channel_conversion", "nan"),
        ([1.0, 2.0, 3.0], "shape", 3),
    ],
)
def test_gains_that_spoil_channels_are_reported(path, gains, rule, part):
    nwbfile = create_file(outputs=[])
    region = add_electrodes(nwbfile, ["EMG", "EMG_2"])
    raw, _ = create_raw(1000.0)
    series = ElectricalSeries(
        name="EMG", data=raw, electrodes=region, rate=1000.0, channel_conversion=[1.0, 1.0]
    )
    nwbfile.add_acquisition(series)
    layouts.write(nwbfile, path)
    with h5py.File(path, "r+") as file:
        group = file["acquisition/EMG"]
        attributes = dict(group["channel_conversion"].attrs)
        del group["channel_conversion"]
        group["channel_conversion"] = gains
        group["channel_conversion"].attrs.update(attributes)
    finding = find_rules(path)[rule]
    assert (finding.object, finding.biases) == ("acquisition/EMG", True)
    assert_names(finding.problem, part, "2 channels")
    if rule == "shape":
        with pytest.raises(ReadError, match=names(path, "acquisition/EMG", "channel_conversion", 3)):
            nwbrnn.read_nwb(path)
        assert_names(finding.remedy, "channel_conversion")


@pytest.mark.parametrize("gain", [1e-6, 1.0])
def test_gains_count_where_the_doctor_looks_at_values(path, gain):
    raw, _ = create_raw(1000.0)
    nwbfile = create_file(outputs=[])
    region = add_electrodes(nwbfile, ["EMG", "EMG_2"])
    series = ElectricalSeries(
        name="EMG", data=1e3 * raw, electrodes=region, rate=1000.0, channel_conversion=[1e-6, gain]
    )
    nwbfile.add_acquisition(series)
    layouts.write(nwbfile, path)
    rules = find_rules(path)
    assert ("emg_volts" in rules) == (gain == 1.0)
    if gain == 1.0:
        assert_names(rules["emg_volts"].problem, "1 of 2")


def test_trials_that_are_declared_invalid_are_not_called_unrecorded(read, path):
    nwbfile = create_file()
    nwbfile.add_invalid_time_interval(start_time=GO[3] - 1, stop_time=GO[3] + 1.2)
    ds = read(nwbfile)
    np.testing.assert_array_equal(ds["trial"], np.delete(np.arange(N), 3))
    rule = find_rules(path, window=WINDOW)["trials_unrecorded"]
    assert_names(rule.problem, "declared invalid", "1 of 24 trials")


def test_sessions_after_one_that_cannot_be_read_are_not_opened(path, tmp_path, monkeypatch):
    layouts.write(create_file(), path)
    opened = []
    real = pooled.open_session

    def open_session(source, **options):
        opened.append(source)
        return real(source, **options)

    monkeypatch.setattr(pooled, "open_session", open_session)
    bad = tmp_path / "bad.nwb"
    bad.write_text("no file")
    with pytest.raises(UnsupportedFileError, match=names(bad)):
        nwbrnn.readers.outline_sessions([path, bad, path], ReadConfig())
    assert len(opened) == 2
