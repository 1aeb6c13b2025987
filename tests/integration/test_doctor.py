"""diagnose and nwbrnn doctor: each rule on a file that breaks it, and none on a clean one."""

import json
import shutil
import warnings
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralEvents

from nwbrnn.errors import UnsupportedFileError
from nwbrnn.readers.doctor import diagnose
from tests.messages import assert_names, names

DURATION = 200.0


@pytest.fixture(scope="module")
def stamped(make_recording):
    return make_recording(use_timestamps=True)


@pytest.fixture
def patch(recording, stamped, tmp_path):
    """Return a function that changes a copy of a recording with h5py and diagnoses it."""

    def change(function, *, timestamps=False):
        path = tmp_path / "patched.nwb"
        shutil.copy((stamped if timestamps else recording).path, path)
        with h5py.File(path, "r+") as file:
            function(file)
        return diagnose(path)

    return change


@pytest.fixture
def write(tmp_path):
    """Return a function that writes units, trials and series of choice, and diagnoses the file."""

    def make(*, trains=(), series=(), trials=None, resolution=None, observed=None):
        start = datetime(2020, 5, 17, 9, 30, tzinfo=UTC)
        nwbfile = NWBFile(session_description="test", identifier="test", session_start_time=start)
        for one in series:
            nwbfile.add_acquisition(one)
        for a, b in np.empty((0, 2)) if trials is None else trials:
            nwbfile.add_trial(start_time=a, stop_time=b)
        for i, train in enumerate(trains):
            row = {} if observed is None else {"obs_intervals": observed[i]}
            nwbfile.add_unit(spike_times=train, **row)
        if resolution is not None:
            nwbfile.units.resolution = resolution
        path = tmp_path / "written.nwb"
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile)
        # most of these files have nothing to reproduce, which would be said of each
        return tuple(finding for finding in diagnose(path) if finding.rule != "refused")

    return make


def poisson(rate, *, start=0.0, stop=DURATION, seed=0):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(start, stop, rng.poisson(rate * (stop - start))))


def population(n=12, rate=10.0, **options):
    return [poisson(rate, seed=seed, **options) for seed in range(n)]


TRIALS = np.stack([np.arange(0.0, 200.0, 4.0), np.arange(3.0, 203.0, 4.0)], axis=1)


REMEDIES = {  # what the remedy names: an option of reading, or what to correct in the file
    "channels_dead": ["channels", "--channels"],
    "channels_saturated": ["channels", "--channels"],
    "conversion": [1],
    "emg_volts": ["conversion", "unit"],
    "events_outside": ["start_time", "stop_time", "--align-to"],
    "offset": [0],
    "offset_as_start": ["starting_time", "offset"],
    "schema": ["pynwb"],
    "silent_spans": ["units.obs_intervals"],
    "spikes_in_bins": ["units.resolution"],
    "spikes_unobserved": ["obs_intervals"],
    "timestamps_gaps": ["timestamps", "rate"],
    "trial_times_missing": ["--window", "--align-to"],
    "trials_missing": ["nwbfile.add_trial"],
    "trials_overlap": ["where", "--where"],
    "trials_reversed": ["start_time", "stop_time", "--where"],
    "trials_unordered": ["start_time"],
    "units_absent": ["units.obs_intervals"],
    "values_missing": ["nan='mask'", "--nan mask"],
}


def expect(findings, rule, where, *parts, biases):
    """Assert that there is one finding, and what it says."""
    assert [(f.rule, f.object, f.biases) for f in findings] == [(rule, where, biases)], findings
    assert_names(findings[0].problem, *parts)
    assert findings[0].remedy
    assert_names(findings[0].remedy, *REMEDIES.get(rule, []))


def pick(findings, rule):
    (one,) = [f for f in findings if f.rule == rule]
    return [one]


def put(path, index, value):
    """Return a patch that sets values of a dataset."""

    def change(file):
        values = file[path][:]
        values[index] = value
        file[path][:] = values

    return change


def put_attribute(path, name, value):
    def change(file):
        file[path].attrs[name] = value

    return change


@pytest.mark.slow
def test_clean_recordings_have_no_findings(recording, stamped, make_recording, write):
    assert diagnose(recording.path) == ()
    assert diagnose(stamped.path) == ()
    assert diagnose(make_recording(raw=True, emg_rate=1000.0).path) == ()
    assert diagnose(make_recording(relative_times=True, layout="separate").path) == ()
    assert write(trains=population(), trials=TRIALS) == ()


def test_bin_ends_are_a_note_for_each_series(make_recording):
    findings = diagnose(make_recording(layout="behavioral").path)
    paths = [f"acquisition/preprocessed_emg/{muscle}" for muscle in ("ECR", "FCR", "FCU")]
    assert [(f.rule, f.object, f.biases) for f in findings] == [("stamps_in_bins", p, False) for p in paths]
    assert_names(findings[0].problem, "description", "ends")


@pytest.mark.parametrize(
    ("name", "value", "rule", "part", "biases"),
    [
        ("conversion", 0.0, "conversion", ["conversion", 0], True),
        ("conversion", np.nan, "conversion", ["conversion", "NaN"], False),
        ("offset", np.nan, "offset", ["offset", "nan"], True),
    ],
)
def test_scaling(patch, name, value, rule, part, biases):
    expect(
        patch(put_attribute("acquisition/EMG/data", name, value)),
        rule,
        "acquisition/EMG",
        *part,
        biases=biases,
    )


@pytest.mark.parametrize("rate", [0.0, -50.0])
def test_rate(patch, rate):
    findings = patch(put_attribute("acquisition/EMG/starting_time", "rate", rate))
    expect(findings, "rate", "acquisition/EMG", "rate", f"{rate:g} Hz", 5000, biases=True)


def test_starting_time_is_not_finite(patch):
    def change(file):
        file["acquisition/EMG/starting_time"][()] = np.nan

    expect(patch(change), "rate", "acquisition/EMG", "starting_time", "nan", biases=True)


def test_offset_of_kinematics_may_be_a_start_time(write):
    def make(name, **timing):
        data = np.random.default_rng(0).standard_normal(500)
        return TimeSeries(name=name, data=data, unit="m/s", offset=17.5, **timing)

    series = [
        make("OpenLoopKinematicsVelocity", rate=50.0),
        make("cursor_vel", rate=50.0, starting_time=2.0),
        make("temperature", rate=50.0),
    ]
    where = "acquisition/OpenLoopKinematicsVelocity"
    expect(write(series=series), "offset_as_start", where, "offset", "17.5 m/s", biases=False)


def test_timestamps_backwards(patch):
    def change(file):
        file["acquisition/EMG/timestamps"][2000:] -= 3.02  # 40 s becomes 36.98 s, after 39.98 s

    findings = patch(change, timestamps=True)
    parts = ("1 of 5000", "number 2000", "3 s")
    expect(findings, "timestamps_backwards", "acquisition/EMG", *parts, biases=True)


def test_timestamps_repeated(patch):
    def change(file):
        stamps = file["acquisition/EMG/timestamps"]
        stamps[701:703] = stamps[700]

    findings = patch(change, timestamps=True)
    parts = ("2 of 5000", "number 701")
    expect(
        pick(findings, "timestamps_repeated"), "timestamps_repeated", "acquisition/EMG", *parts, biases=False
    )
    assert_names(pick(findings, "timestamps_gaps")[0].problem, 1, "0.02 s")


def test_timestamps_not_finite(patch):
    findings = patch(put("acquisition/EMG/timestamps", [30, 31, 4000], np.nan), timestamps=True)
    parts = ("3 of 5000", "number 30")
    expect(findings, "timestamps_not_finite", "acquisition/EMG", *parts, biases=False)


def test_first_timestamp_is_not_finite(patch):
    findings = patch(put("acquisition/EMG/timestamps", [0], np.nan), timestamps=True)
    expect(findings, "timestamps_not_finite", "acquisition/EMG", "1 of 5000", "number 0", biases=False)


def test_timestamps_number(patch):
    def change(file):
        stamps = file["acquisition/EMG/timestamps"][:-7]
        attributes = dict(file["acquisition/EMG/timestamps"].attrs)
        del file["acquisition/EMG/timestamps"]
        file["acquisition/EMG/timestamps"] = stamps
        file["acquisition/EMG/timestamps"].attrs.update(attributes)

    findings = patch(change, timestamps=True)
    parts = ("4993 timestamps", "5000 samples")
    expect(findings, "timestamps_number", "acquisition/EMG", *parts, biases=True)


@pytest.mark.slow
def test_gaps_also_across_blocks(make_recording, monkeypatch):
    path = make_recording(drop_emg=(20.0, 23.5)).path
    whole = diagnose(path)
    parts = ("1 gap", "0.02 s", "3.52 s", "at 19.98 s")
    expect(pick(whole, "timestamps_gaps"), "timestamps_gaps", "acquisition/EMG", *parts, biases=False)
    expect(pick(whole, "trials_unrecorded"), "trials_unrecorded", "intervals/trials", biases=False)
    monkeypatch.setattr(
        "nwbrnn.readers.doctor.series.BLOCK", 100
    )  # 19.98 s is number 999, the last of a block
    monkeypatch.setattr("nwbrnn.readers.doctor.values.BLOCK", 100)
    monkeypatch.setattr("nwbrnn.readers.units.BLOCK", 100)
    assert diagnose(path) == whole


def test_events_have_no_gaps_and_do_not_bias(write):
    licks = np.sort(np.random.default_rng(0).exponential(3.0, 300).cumsum())
    licks[50] = licks[49] - 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BehavioralEvents are of old files
        container = BehavioralEvents(name="licks")
    container.add_timeseries(TimeSeries(name="left", data=np.ones(300), unit="n/a", timestamps=licks))
    findings = write(series=[container])
    parts = ("1 of 300", "number 50", "1.5 s")
    expect(findings, "timestamps_backwards", "acquisition/licks/left", *parts, biases=False)


def test_dead_channels(patch):
    expect(
        patch(put("acquisition/EMG/data", (slice(None), 1), 3.0)),
        "channels_dead", "acquisition/EMG", "1 of 3", 5000, "FCU", biases=True,
    )  # fmt: skip
    expect(
        patch(put("acquisition/EMG/data", (slice(None), 2), np.nan)),
        "channels_dead", "acquisition/EMG", "1 of 3", "NaN", 5000, "ECR", biases=True,
    )  # fmt: skip


def test_artefacts(patch):
    def change(file):
        values = file["acquisition/EMG/data"][:]
        values[1000, 1] = 300 * np.quantile(values[:, 1], 0.95)
        file["acquisition/EMG/data"][:] = values

    expect(patch(change), "artefacts", "acquisition/EMG", "1 of 3", "FCU", biases=False)


def test_values_missing(patch):
    findings = patch(put("acquisition/EMG/data", (slice(1200, 1250), 1), np.nan))
    parts = ("1 of 3", "FCU", "50 of 5000", 1200)
    expect(pick(findings, "values_missing"), "values_missing", "acquisition/EMG", *parts, biases=False)
    (refused,) = pick(findings, "refused")  # which is what reading does with NaN unless told otherwise
    assert refused.biases
    assert_names(refused.problem + refused.remedy, "FCU", "--nan mask")


def test_clipped_channels_and_what_is_not(write):
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((20_000, 4))
    n_clipped = int((raw[:, 0] >= 2.5).sum())  # 0.6 %
    raw[:, 0] = np.minimum(raw[:, 0], 2.5)
    raw[:, 1] = np.maximum(raw[:, 1], 0.0)  # rests at zero
    raw[:, 2] = np.rint(20 * raw[:, 2])  # coarse steps
    emg = TimeSeries(name="EMG", data=raw, unit="a.u.", rate=1000.0)
    parts = ("1 of 4", 20_000, f"EMG_0 ({n_clipped / 20_000:.2%})")
    expect(write(series=[emg]), "channels_saturated", "acquisition/EMG", *parts, biases=True)


def test_channels_clipped_at_the_minimum(write):
    raw = np.maximum(np.random.default_rng(0).standard_normal(20_000), -2.0)
    emg = TimeSeries(name="EMG", data=raw, unit="a.u.", rate=1000.0)
    expect(write(series=[emg]), "channels_saturated", "acquisition/EMG", "1 of 1", biases=True)


@pytest.mark.parametrize(
    ("unit", "conversion", "text"), [("volts", 1.0, "12.5 V"), ("mV", 100.0, "1.25 V"), ("UV", 1e5, "1.25 V")]
)
def test_emg_too_large_for_volts(write, unit, conversion, text):
    data = np.random.default_rng(0).uniform(0, 1, 500)
    data[7] = 12.5
    emg = TimeSeries(name="EMG", data=data, unit=unit, rate=50.0, conversion=conversion)
    expect(write(series=[emg]), "emg_volts", "acquisition/EMG", "1 of 1", text, biases=False)


def test_overlapping_trials(patch, recording):
    findings = patch(put("intervals/trials/stop_time", 10, recording.start[11] + 0.5))
    parts = ("1 of 40", "row 11", "0.5 s")
    expect(findings, "trials_overlap", "intervals/trials", *parts, biases=True)


def test_a_trial_within_another_overlaps(write):
    trials = np.array([[0.0, 100.0], [10.0, 11.0], [20.0, 21.0], [100.0, 101.0]])
    parts = ("2 of 4", "row 1", "1 s")
    expect(write(trials=trials), "trials_overlap", "intervals/trials", *parts, biases=True)


def test_trials_unordered(write):
    trials = TRIALS[[0, 1, 3, 2, *range(4, 50)]]
    parts = ("1 of 50", "row 3")
    expect(write(trials=trials), "trials_unordered", "intervals/trials", *parts, biases=False)


def test_trials_reversed(patch, recording):
    findings = patch(put("intervals/trials/stop_time", 5, recording.start[5] - 1.0))
    reversed_ = pick(findings, "trials_reversed")
    expect(reversed_, "trials_reversed", "intervals/trials", "1 of 40", "row 5", biases=True)
    assert {f.rule for f in findings} == {"trials_reversed", "events_outside"}  # its cues are outside then


def test_stop_times_missing(patch):
    findings = patch(put("intervals/trials/stop_time", slice(None), np.nan))
    parts = ("40 of 40", "NaN", "row 0")
    expect(findings, "trial_times_missing", "intervals/trials/stop_time", *parts, biases=False)


def test_go_cue_outside_its_trial(patch, recording):
    findings = patch(put("intervals/trials/go_cue_time", [3, 8], recording.start[[3, 8]] - 0.2))
    parts = (
        "2 of 40",
        "row 3",
        f"{recording.start[3] - 0.2:.6g} s",
        f"{recording.stop[3]:.6g} s",
    )
    expect(findings, "events_outside", "intervals/trials/go_cue_time", *parts, biases=True)


def test_empty_columns(patch):
    findings = patch(put("intervals/trials/move_onset_time", slice(None), np.nan))
    expect(findings, "columns_empty", "intervals/trials", 1, "NaN", "move_onset_time", biases=False)


def test_units_without_trials(make_recording):
    findings = [f for f in diagnose(make_recording(trials=False).path) if f.rule != "refused"]
    expect(findings, "trials_missing", "intervals/trials", "12 units", "trials", biases=False)


def test_spike_times_not_finite_negative_and_unsorted(patch, recording):
    total = sum(map(len, recording.spikes))
    second = len(recording.spikes[0])

    findings = patch(put("units/spike_times", second + 4, np.nan))
    parts = (f"1 of {total}", "1 unit", "NaN", "unit 1")
    expect(findings, "spike_times", "units/spike_times", *parts, biases=True)

    findings = patch(put("units/spike_times", second, -0.25))
    parts = (f"1 of {total}", "1 unit", "negative", "unit 1")
    expect(findings, "spike_times", "units/spike_times", *parts, biases=False)

    swapped = recording.spikes[1][[5, 4]]
    findings = patch(put("units/spike_times", [second + 4, second + 5], swapped))
    parts = (f"1 of {total}", "1 unit", "earlier", "unit 1")
    expect(findings, "spike_times", "units/spike_times", *parts, biases=False)


def test_spike_index_damaged(patch, recording):
    total = sum(map(len, recording.spikes))
    findings = patch(put("units/spike_times_index", 11, total + 100))
    parts = (total, total + 100)
    expect(findings, "spike_index", "units/spike_times_index", *parts, biases=True)


def test_spikes_outside_observation(write):
    trains = population(4)
    observed = [[[0.0, DURATION]]] * 3 + [[[0.0, 90.0], [100.0, DURATION]]]
    outside = int(((trains[3] > 90) & (trains[3] < 100)).sum())
    findings = write(trains=trains, trials=TRIALS, observed=observed)
    parts = (f"{outside} of {sum(map(len, trains))}", "1 unit", "unit 3")
    expect(findings, "spikes_unobserved", "units/obs_intervals", *parts, biases=False)


def test_units_without_spikes(write):
    findings = write(trains=[*population(3), np.empty(0)], trials=TRIALS)
    expect(findings, "units_empty", "units", "1 of 4", 3, biases=False)


@pytest.mark.parametrize("width", [0.05, 1 / 30])
def test_spikes_in_bins(write, width):
    trains = [np.unique(np.floor(train / width)) * width + 0.003 for train in population()]
    parts = ("units.resolution", f"{width * 1000:.4g} ms", sum(map(len, trains)))
    expect(write(trains=trains, trials=TRIALS), "spikes_in_bins", "units/spike_times", *parts, biases=False)
    assert write(trains=trains, trials=TRIALS, resolution=width) == ()
    findings = write(trains=trains, trials=TRIALS, resolution=0.001)
    expect(findings, "spikes_in_bins", "units/spike_times", "units.resolution", "0.001 s", biases=False)


@pytest.mark.parametrize("start", [0.0, 1.6e9])
@pytest.mark.parametrize("width", [0.05, 1 / 30])
def test_resolution_that_spikes_do_not_have(write, width, start):
    trains = [train + start for train in population()]
    findings = write(trains=trains, trials=TRIALS + start, resolution=width)
    expect(findings, "resolution", "units.resolution", f"{width:g} s", biases=False)
    binned = [np.unique(np.floor(train / width)) * width + start for train in population()]
    assert write(trains=binned, trials=TRIALS + start, resolution=width) == ()
    findings = write(trains=binned, trials=TRIALS + start)
    expect(findings, "spikes_in_bins", "units/spike_times", f"{width * 1000:.4g} ms", biases=False)


def silence(train, start=80.0, stop=92.0):
    return train[(train < start) | (train > stop)]


def test_silent_spans(write):
    trains = [silence(train) for train in population()]
    findings = write(trains=trains, trials=TRIALS)
    parts = ("1 stretch", "80.00 to 92.00 s", "3 of 50")
    expect(findings, "silent_spans", "units", *parts, biases=True)


def test_silence_before_the_first_spike(write):
    findings = write(trains=population(start=30.0), trials=TRIALS)
    parts = ("0.00 to 30.00 s", "8 of 50")  # from 0, 4 ... 28 s
    expect(findings, "silent_spans", "units", *parts, biases=True)


def test_silence_that_obs_intervals_state_is_fine(write):
    trains = [silence(train) for train in population()]
    assert write(trains=trains, trials=TRIALS, observed=[[[0.0, 80.0], [92.0, DURATION]]] * 12) == ()
    findings = write(trains=trains, trials=TRIALS, observed=[[[0.0, DURATION]]] * 12)
    assert [f.rule for f in findings] == ["silent_spans"]


def test_silence_between_trials_is_a_note(write):
    trains = [train[(train % 4) < 2.5] for train in population(rate=20.0)]
    findings = write(trains=trains, trials=TRIALS)
    expect(findings, "silent_spans", "units", "0 of 50", biases=False)


def test_few_units_that_pause_are_not_off(write):
    rng = np.random.default_rng(0)
    bursts = np.arange(0.0, DURATION, 6.0)[:, np.newaxis] + rng.uniform(0, 0.8, (34, 100))
    assert write(trains=[np.sort(bursts.ravel())], trials=TRIALS) == ()


def test_units_absent(write):
    trains = population()
    trains[4] = trains[4][trains[4] > 60]
    trains[7] = trains[7][trains[7] < 150]
    low, high = min(t[0] for t in trains), max(t[-1] for t in trains)
    findings = write(trains=trains, trials=TRIALS)
    parts = (
        "2 of 12",
        "unit 4",
        f"{trains[4][0] - low:.4g} s late",
        "unit 7",
        f"{high - trains[7][-1]:.4g} s early",
    )
    expect(findings, "units_absent", "units", *parts, biases=True)
    observed = [[[0.0, DURATION]]] * 12
    observed[4], observed[7] = [[60.0, DURATION]], [[0.0, 150.0]]
    assert write(trains=trains, trials=TRIALS, observed=observed) == ()


def test_units_drifting(write):
    trains = population()
    rng = np.random.default_rng(9)
    trains[5] = trains[5][rng.random(len(trains[5])) < np.where(trains[5] > 2 * DURATION / 3, 0.25, 1.0)]
    thirds = np.histogram(trains[5], 3, (min(t[0] for t in trains), max(t[-1] for t in trains)))[0]
    parts = ("1 of 12", "8.3%", f"unit 5 by {thirds.max() / thirds.min():.3g}")
    expect(write(trains=trains, trials=TRIALS), "units_drifting", "units", *parts, biases=False)


def test_units_twice(write):
    trains = population()
    rng = np.random.default_rng(9)
    kept = trains[2][rng.random(len(trains[2])) < 0.8]
    trains[9] = np.sort(np.append(kept, rng.uniform(0, DURATION, 200)))
    share = len(kept) / max(len(trains[9]), len(trains[2]))
    parts = ("1 pair", "2 and 9", f"{share:.1%}")
    expect(write(trains=trains, trials=TRIALS), "units_twice", "units", *parts, biases=True)


def test_units_in_bins_share_times_by_chance_only(write):
    trains = [np.unique(np.floor(train / 0.05)) * 0.05 for train in population(rate=30.0)]
    shared = len(np.intersect1d(trains[0], trains[1])) / max(len(trains[0]), len(trains[1]))
    assert shared > 0.7
    assert write(trains=trains, trials=TRIALS, resolution=0.05) == ()
    trains[3] = trains[1]
    findings = write(trains=trains, trials=TRIALS, resolution=0.05)
    expect(findings, "units_twice", "units", "1 pair", "1 and 3", "100.0%", biases=True)


def test_orphans(patch):
    def change(file):
        file.create_group("processing/nwbrnn/rates").create_dataset("data", data=np.zeros(3))
        file["acquisition"].create_group("half")
        file.create_group("left_over")

    findings = patch(change)
    assert {(f.rule, f.biases) for f in findings} == {("orphans", False)}
    assert [f.object for f in findings] == ["acquisition/half", "processing/nwbrnn", "left_over"]
    assert_names(findings[1].problem, "neurodata_type", "1 object")


def test_schema_mixed(patch):
    def change(file):
        core = file["specifications/core"]
        core.copy(next(iter(core)), "2.7.0")

    expect(patch(change), "schema", "specifications/core", "nwb_version", "2.7.0", biases=False)
    # one schema whose version differs from the attribute by a suffix, such as -alpha, is no mixture
    assert patch(put_attribute("/", "nwb_version", "2.6.0")) == ()


def test_biasing_findings_come_first(patch, recording):
    def change(file):
        put("intervals/trials/stop_time", 10, recording.start[11] + 0.5)(file)
        put_attribute("acquisition/EMG/data", "conversion", np.nan)(file)

    assert [(f.rule, f.biases) for f in patch(change)] == [("trials_overlap", True), ("conversion", False)]


def test_links_out_of_the_file_need_permission(recording, tmp_path):
    path = tmp_path / "linked.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "r+") as file:
        del file["acquisition/EMG"]
        file["acquisition/EMG"] = h5py.ExternalLink(str(recording.path), "/acquisition/EMG")
    with pytest.raises(
        UnsupportedFileError,
        match=names(path, f"/acquisition/EMG -> {recording.path}", "follow_links", "--follow-links"),
    ):
        diagnose(path)
    assert diagnose(path, follow_links=True) == ()


def test_teacher_file_has_nothing_that_biases(teacher):
    assert not any(finding.biases for finding in diagnose(teacher.path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spike_20120829.nwb", "jango_20141203.nwb"])
def test_real_recordings_have_nothing_that_biases(shared_data, name):
    assert {f.rule for f in diagnose(shared_data(name))} <= {"stamps_in_bins", "units_drifting"}


def test_real_recording_with_lost_units(shared_data):
    path = shared_data("sub_anm00239123_older_version.nwb")
    findings = {f.rule: f for f in diagnose(path) if f.biases}
    assert set(findings) == {"silent_spans", "units_absent"}
    with h5py.File(path) as file:
        ends = file["units/spike_times_index"][:]
        last = file["units/spike_times"][:][ends - 1]
    assert_names(findings["units_absent"].problem, "unit 0", f"{last.max() - last[0]:.4g} s early")
    assert_names(findings["silent_spans"].problem, "1 stretch")


def test_command(recording, run_cli, tmp_path):
    finished = run_cli("doctor", recording.path)
    assert finished.code == 0
    assert len(finished.out.splitlines()) == 1  # no findings, and a line that says so

    path = tmp_path / "[red]bad.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "r+") as file:
        file["acquisition/EMG/data"].attrs["conversion"] = 0.0
    report = tmp_path / "doctor.json"
    finished = run_cli("doctor", path, "--json", report)
    assert (finished.code, finished.err) == (1, "")
    assert_names(finished.out, "conversion", "acquisition/EMG")
    written = json.loads(report.read_text())
    assert written == {
        "file": str(path),
        "biases": True,
        "findings": [vars(finding) for finding in diagnose(path)],
    }
    assert run_cli("doctor", path, "--json", report).code == 2  # it exists
    finished = run_cli("doctor", path, "--json", "-", "--follow-links")
    assert (finished.code, json.loads(finished.out)["findings"][0]["rule"]) == (1, "conversion")


def test_command_shows_notes_of_several_series_in_one_row(make_recording, run_cli):
    finished = run_cli("doctor", make_recording(layout="behavioral").path)
    assert finished.code == 0
    assert finished.out.count("stamps_in_bins") == 1
    for muscle in ("ECR", "FCR", "FCU"):
        assert f"acquisition/preprocessed_emg/{muscle}" in finished.out.split()


def test_command_refuses_what_cannot_be_read(run_cli, tmp_path):
    old = tmp_path / "old.nwb"
    with h5py.File(old, "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
    for path in (old, tmp_path / "none.nwb"):
        finished = run_cli("doctor", path)
        assert (finished.code, finished.out) == (2, "")
        assert finished.err.startswith(f"Error: {path}: ")
    assert "NWB-1.0.6" in run_cli("doctor", old).err
