"""Pools in sweeps: which sessions are pooled, on what they are scored, and what more of them bring."""

from collections import Counter

import numpy as np
import pytest
import xarray as xr

import nwbrnn
from nwbrnn.config import FitConfig, SweepConfig
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing import prepare, split_trials, view_session
from nwbrnn.report import plot_sessions
from nwbrnn.sweep import (
    compare_with_baseline,
    compare_with_fewest,
    create_table,
    keep_data,
    list_cells,
    list_finished,
    rebuild_fit,
    show_session,
    write_results,
)
from nwbrnn.sweep.agreement import compare_seeds
from nwbrnn.sweep.cell import run_cell
from nwbrnn.sweep.sources import Stored, choose_sessions
from tests.messages import assert_names, names
from tests.unit.test_training import create_recording

pytestmark = [pytest.mark.slow, pytest.mark.cover]

NAMES = ("mon", "tue", "wed")
BASE = FitConfig(hidden=12, epochs=3, min_rate=0, method="gradient", session_outputs="shared")


@pytest.fixture(scope="module")
def sessions():
    """Return three sessions of one circuit, with four neurons each; the muscles have other gains."""
    found = {}
    for number, name in enumerate(NAMES):
        ds = create_recording(noise=0.02 + 0.03 * number, counts=False)
        ds = ds.isel(unit=slice(4 * number, 4 * number + 4))
        ds["outputs"] = ds["outputs"] * (1 + number) + number
        found[name] = ds.assign_attrs(source_file=f"{name}.nwb", source_identifier=name)
    return found


def list_stored(n):
    return [Stored(f"s{number}", str(number), ("0", "1", "2")) for number in range(n)]


# ------------------------------------------------------------------ which sessions


def test_a_larger_pool_of_a_seed_holds_the_smaller_ones_and_its_reference():
    data = list_stored(5)
    for seed in range(20):
        pools = [choose_sessions(data, size, seed) for size in range(1, 6)]
        assert [one.name for one in pools[0]] == [f"s{seed % 5}"]
        for size, (small, large) in enumerate(zip(pools, [*pools[1:], tuple(data)], strict=True), start=1):
            assert len(small) == size
            assert set(small) <= set(large)
            assert list(small) == sorted(small, key=data.index)


def test_each_file_is_the_reference_equally_often_and_the_others_are_drawn():
    data = list_stored(4)
    assert set(Counter(choose_sessions(data, 1, seed)[0] for seed in range(40)).values()) == {10}
    pairs = Counter(choose_sessions(data, 2, seed) for seed in range(400))
    assert len(pairs) == 6
    assert min(pairs.values()) > 40  # of 67 expected


def test_each_cell_names_its_sessions_and_the_one_that_is_scored():
    cells = list_cells(list_stored(3), SweepConfig(sampled=(0, 2), seeds=3, sessions=("all", 1, 3)), BASE)
    assert len(cells) == len({cell.key for cell in cells}) == 2 * 2 * 3  # "all" is 3
    assert {cell.source for cell in cells} == {"pool"}
    for cell in cells:
        assert cell.reference == f"s{cell.config.seed}"
        assert cell.reference in cell.sessions
    alone = [cell for cell in cells if len(cell.sessions) == 1]
    assert {cell.data_hash for cell in alone} == {"0", "1", "2"}  # as of a file that is fitted alone
    whole = list_cells(list_stored(3), SweepConfig(sampled=(2,), seeds=2, pool=True), BASE)
    assert [(cell.sessions, cell.reference) for cell in whole] == [(("s0", "s1", "s2"), "")] * 2
    assert not {cell.key for cell in whole} & {cell.key for cell in cells}  # others are scored on all


def test_conditions_are_held_out_that_the_scored_session_has():
    first, second = Stored("a", "1", ("0", "90", "180")), Stored("b", "2", ("0.0", "90", "45", "135"))
    grid = {"sampled": (2,), "seeds": 2, "held_out": "condition"}
    cells = list_cells([first, second], SweepConfig(**grid, sessions=(2,)), BASE)
    held_out = [(cell.config.seed, *cell.config.held_out_conditions) for cell in cells]
    assert held_out == [*((0, c) for c in ("0", "90", "180")), *((1, c) for c in ("0.0", "45", "90", "135"))]
    cells = list_cells([first, second], SweepConfig(**grid, pool=True), BASE)
    assert {cell.config.held_out_conditions for cell in cells} == {
        (c,) for c in ("0", "45", "90", "135", "180")
    }


@pytest.mark.parametrize(
    ("n_files", "grid", "told"),
    [
        (3, {"sessions": (1, 9)}, ("sessions", 3, 9)),
        (1, {"sessions": (1,)}, ("sessions", "two", 1)),
        (1, {"pool": True}, ("pool", "two", 1)),
    ],
)
def test_too_few_files_are_refused(n_files, grid, told):
    with pytest.raises(ConfigError) as caught:
        list_cells(list_stored(n_files), SweepConfig(**grid), BASE)
    assert_names(str(caught.value), *told)


@pytest.mark.parametrize(
    ("grid", "base", "told"),
    [
        ({}, {"held_out_conditions": ("90",)}, ("held_out_conditions", "90")),
        ({"sessions": (1, 2)}, {"observe": (3, 4)}, ("observe", "sampled")),
        ({"sessions": (1, 2), "vary": {"observe": ["all", (3,)]}}, {}, ("observe", "sampled")),
    ],
)
def test_settings_that_a_sweep_cannot_follow_are_refused(grid, base, told):
    with pytest.raises(ConfigError) as caught:
        list_cells(list_stored(2), SweepConfig(**grid), FitConfig(**base))
    assert_names(str(caught.value), *told)


# ------------------------------------------------------------------ what is scored


@pytest.fixture(scope="module")
def finished(sessions, tmp_path_factory):
    """Return a sweep over 1 to 3 sessions, its cells and its table."""
    folder = tmp_path_factory.mktemp("sweep")
    for part in ("data", "cells"):
        (folder / part).mkdir()
    data = [keep_data(folder, name, ds) for name, ds in sessions.items()]
    grid = SweepConfig(sampled=(2,), sessions=(1, 2, 3), seeds=3, resamples=0)
    cells = list_cells(data, grid, BASE)
    for cell in cells:
        run_cell(folder, cell)
    table = create_table(folder, cells)
    assert table["error"].values.tolist() == [""] * len(cells)
    assert not [name for name in table["score"].values if "disturbed" in name]  # docs/sweeps.md says why
    return folder, cells, table


def score_by_hand(cell, sessions):
    """Return output R² and unsampled R² of a pooled fit on the scored session, without our evaluation."""
    chosen = [sessions[name] for name in cell.sessions]
    result = nwbrnn.fit(nwbrnn.pool(chosen) if len(chosen) > 1 else chosen[0], cell.config, progress=False)
    known, guess = result.recorded, result.predicted
    trials = known["split"].values == "test"
    units = ~known["sampled"].values
    scale, offset = np.ones(3), np.zeros(3)
    if len(chosen) > 1:
        trials &= known["session"].values == cell.reference
        units &= known["session_of_unit"].values == cell.reference
        row = known["recording"].values.tolist().index(cell.reference)
        scale, offset = (known[f"recording_output_{name}"].values[row] for name in ("scale", "offset"))
    test = sessions[cell.reference]
    rows = known["session_trial" if len(chosen) > 1 else "trial"].values[trials]
    labels = test["condition"].values[rows]

    def average(values):
        return np.concatenate([values[labels == label].mean(axis=0) for label in dict.fromkeys(labels)])

    truth, outputs = average(test["outputs"].values[rows]), average(guess["outputs"].values[trials])
    train = split_trials(test, seed=cell.config.seed)["split"].values == "train"
    size = np.percentile(np.abs(test["outputs"].values[train]), BASE.output_percentile, axis=(0, 1))
    truth, outputs = truth / size, (outputs * scale + offset) / size
    r2 = 1 - np.square(truth - outputs).sum() / np.square(truth - truth.mean(axis=0)).sum()
    rates, theirs = (average(ds["rates"].values[trials][..., units]) for ds in (known, guess))
    each = 1 - np.square(rates - theirs).sum(axis=0) / np.square(rates - rates.mean(axis=0)).sum(axis=0)
    return r2, np.median(each)


def test_the_curve_is_that_of_fits_by_hand(finished, sessions):
    _, cells, table = finished
    by_size = {}
    for row, cell in enumerate(cells):
        scores = score_by_hand(cell, sessions)
        for name, value in zip(("output R2", "unsampled neurons R2"), scores, strict=True):
            assert float(table["value"].sel(score=name)[row]) == pytest.approx(value, abs=1e-5)
        by_size.setdefault(len(cell.sessions), []).append(scores)
    statistics = compare_with_baseline(table).set_index(["sessions", "score"])
    gains = compare_with_fewest(table).set_index(["sessions", "score"])
    for size, scores in by_size.items():
        for column, name in enumerate(("output R2", "unsampled neurons R2")):
            values = np.array(scores)[:, column]
            assert statistics.loc[str(size), name]["mean"] == pytest.approx(values.mean(), abs=1e-5)
            paired = values - np.array(by_size[1])[:, column]
            row = gains.loc[str(size), name]
            assert row["difference"] == pytest.approx(paired.mean(), abs=1e-5)
            if size > 1:
                half = 4.302653 * paired.std(ddof=1) / np.sqrt(3)  # t with two degrees of freedom
                assert row["high"] - row["low"] == pytest.approx(2 * half, abs=1e-4)
                assert row["better"] == (paired > 0).sum()


def test_what_only_an_earlier_sweep_in_the_folder_had_is_removed(finished):
    folder, _, table = finished
    only_some = ("sessions.csv", "agreement.csv", "figures/sessions.png", "figures/agreement.png")
    write_results(table, folder)
    assert all((folder / name).exists() for name in only_some)
    write_results(table.isel(cell=table["sessions"].values == "1"), folder)
    assert not any((folder / name).exists() for name in only_some)


def test_the_agreement_of_seeds_names_the_sessions_that_they_share(finished):
    folder, _, table = finished
    found = compare_seeds(folder, table)  # only the pool of all sessions has three seeds
    assert set(found["source"]) == {", ".join(NAMES)}
    assert set(found["seeds"]) == {3}


def test_sizes_are_compared_with_the_smallest_of_which_a_fit_is_done(finished):
    _, _, table = finished
    sizes = table["sessions"].values
    assert compare_with_fewest(table.isel(cell=sizes == "2")).empty  # there is nothing to compare
    failed = table.assign_coords(status=("cell", np.where(sizes == "1", "failed", "done")))
    gains = compare_with_fewest(failed).set_index(["sessions", "score"])
    value = table["value"].sel(score="output R2")
    expected = (value[sizes == "3"].values - value[sizes == "2"].values).mean()
    assert gains.loc["3", "output R2"]["difference"] == pytest.approx(expected, abs=1e-9)


def test_all_sizes_have_the_same_neurons_and_test_trials(finished):
    folder, cells, table = finished
    for seed in range(3):
        rows = [i for i, cell in enumerate(cells) if cell.config.seed == seed]
        assert len(np.unique(table["unit_sampled"].values[rows], axis=0)) == 1
        for name in ("noise_ceiling", "known_average"):
            values = table[name].sel(score="output R2").values[rows]
            np.testing.assert_allclose(values, values[0], atol=1e-6)
        assert len({table["reference"].values[i] for i in rows}) == 1
    assert table["sessions"].values.tolist() == [str(len(cell.sessions)) for cell in cells]
    assert {cell.key for cell in list_finished(folder)} == {cell.key for cell in cells}


def test_the_fit_of_a_cell_is_that_of_its_whole_pool(finished, sessions):
    folder, cells, _ = finished
    cell = next(c for c in cells if len(c.sessions) == 3)
    again = nwbrnn.fit(nwbrnn.pool(list(sessions.values())), cell.config, progress=False)
    xr.testing.assert_identical(rebuild_fit(folder, cell).recorded, again.recorded)


def test_a_session_of_a_pool_is_in_the_units_of_its_file(sessions):
    config = BASE.model_copy(update={"sampled": 2})
    pooled = prepare(nwbrnn.pool(list(sessions.values())), config)
    guess = pooled.assign(hidden=(("trial", "time", "hidden_unit"), np.zeros((*pooled["mask"].shape, 2))))
    for name, ds in sessions.items():
        alone = prepare(ds, config)
        shown = view_session(guess, alone, name)
        np.testing.assert_allclose(shown["outputs"], alone["outputs"], atol=1e-4)
        np.testing.assert_allclose(shown["rates"], alone["rates"], rtol=1e-6)  # pools hold float32
        assert shown["sampled"].identical(alone["sampled"])
        with pytest.raises(ValueError, match=name):
            view_session(guess, alone.isel(trial=slice(1, None)), name)


@pytest.mark.parametrize(
    "settings",
    [{}, {"align_sessions": ()}, {"session_outputs": "own"}],
    ids=["aligned", "as they are", "own"],
)
def test_a_session_whose_outputs_the_pool_converted_is_in_the_units_of_its_file(sessions, settings):
    monday, tuesday = sessions["mon"].copy(), sessions["tue"].copy()
    monday["outputs"].attrs["units"], tuesday["outputs"].attrs["units"] = "V", "mV"
    tuesday["outputs"] = tuesday["outputs"] * 1000
    config = BASE.model_copy(update={"sampled": 2} | settings)
    pooled = prepare(nwbrnn.pool([monday, tuesday]), config)
    guess = pooled.assign(hidden=(("trial", "time", "hidden_unit"), np.zeros((*pooled["mask"].shape, 2))))
    for name, ds in (("mon", monday), ("tue", tuesday)):
        alone = prepare(ds, config)
        shown = view_session(guess, alone, name)
        np.testing.assert_allclose(shown["outputs"], alone["outputs"], rtol=1e-4, atol=1e-3)
        assert shown["outputs"].attrs["units"] == ds["outputs"].attrs["units"]


def test_outputs_of_its_own_are_found_under_the_name_that_they_have_in_the_pool(sessions):
    config = BASE.model_copy(update={"sampled": 2, "session_outputs": "own"})
    pooled = prepare(nwbrnn.pool(list(sessions.values())), config)
    guess = pooled.assign(hidden=(("trial", "time", "hidden_unit"), np.zeros((*pooled["mask"].shape, 2))))
    alone = prepare(sessions["tue"], config)
    np.testing.assert_allclose(view_session(guess, alone, "tue")["outputs"], alone["outputs"], atol=1e-5)


@pytest.mark.parametrize("outputs", ["shared", "own"])
@pytest.mark.parametrize("unknown", ["everywhere", "in training"])
def test_an_output_that_a_session_never_trained_is_left_out_of_its_view(sessions, tmp_path, outputs, unknown):
    if (outputs, unknown) == ("own", "in training"):
        pytest.skip("a fit refuses an output of which it knows nothing")
    folder = tmp_path
    for part in ("data", "cells"):
        (folder / part).mkdir()
    config = BASE.model_copy(update={"sampled": 2, "session_outputs": outputs})
    tuesday = sessions["tue"].copy(deep=True)
    trained = prepare(tuesday, config.model_copy(update={"seed": 1}))["split"].values == "train"
    tuesday["outputs"][{"output": 1, "trial": trained if unknown == "in training" else slice(None)}] = np.nan
    data = [keep_data(folder, name, ds) for name, ds in (("mon", sessions["mon"]), ("tue", tuesday))]
    grid = SweepConfig(sampled=(2,), sessions=(2,), seeds=2, resamples=0)
    _, cell = list_cells(data, grid, config)  # scored on tuesday
    run_cell(folder, cell)
    table = create_table(folder, [cell])
    assert table["error"].values.tolist() == [""]
    shown = show_session(rebuild_fit(folder, cell), folder, cell, "tue")
    assert shown.recorded["output"].values.tolist() == ["output_0", "output_2"]
    score = nwbrnn.evaluate(shown.recorded, shown.predicted).get("output R2").value
    assert float(table["value"].sel(score="output R2")[0]) == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(
    ("lacks", "words"), [("test trials", ("test", "1 trial")), ("outputs", ("outputs", "training trials"))]
)
def test_a_session_that_cannot_be_scored_alone_is_named(sessions, tmp_path, lacks, words):
    for part in ("data", "cells"):
        (tmp_path / part).mkdir()
    one = sessions["tue"].isel(trial=[0])
    if lacks == "outputs":
        one = sessions["tue"].assign(outputs=sessions["tue"]["outputs"] * np.nan)
    data = [keep_data(tmp_path, name, ds) for name, ds in (("mon", sessions["mon"]), ("tue", one))]
    cells = list_cells(data, SweepConfig(sampled=(2,), sessions=(2,), seeds=2, resamples=0), BASE)
    for cell in cells:
        run_cell(tmp_path, cell)
    errors = create_table(tmp_path, cells)["error"].values.tolist()
    assert errors[0] == ""
    assert_names(errors[1], "session tue", *words)


def test_other_data_of_the_same_names_are_refused(finished, sessions, tmp_path):
    _, cells, _ = finished
    for part in ("data", "cells"):
        (tmp_path / part).mkdir()
    for name in NAMES:
        keep_data(tmp_path, name, sessions["mon"] if name == "tue" else sessions[name])
    cell = next(cell for cell in cells if len(cell.sessions) == 3)
    run_cell(tmp_path, cell)
    assert_names(create_table(tmp_path, [cell])["error"].values[0], tmp_path / "data", *NAMES)


def test_the_figure_shows_means_and_differences_against_the_number_of_sessions(finished):
    _, _, table = finished
    statistics, gains = compare_with_baseline(table), compare_with_fewest(table)
    figure = plot_sessions(statistics, gains, ("unsampled neurons R2", "output R2"))
    above, _, below, _ = figure.axes
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["1", "2", "3"]
    for ax, frame, column in ((above, statistics, "mean"), (below, gains, "difference")):
        rows = frame[frame["score"] == "unsampled neurons R2"]
        (line,) = ax.containers
        np.testing.assert_allclose(line.lines[0].get_ydata(), rows[column])
    with pytest.raises(ConfigError, match=names("against", "sessions")):
        nwbrnn.plot.sampling_curve(
            statistics.drop(columns="sessions"), "output R2", against="sessions", ax=above
        )
