"""The grid, the table and the statistics of a sweep."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.dataset import hash_dataset
from nwbrnn.errors import ConfigError, ExportError, ReadError, UnsupportedFileError
from nwbrnn.evaluation import BASELINES, assess
from nwbrnn.formats import read_dataset, write_dataset
from nwbrnn.job import fit
from nwbrnn.mechanism import compare_networks
from nwbrnn.plot.sweep import list_settings
from nwbrnn.preprocessing import choose_sampled
from nwbrnn.report import plot_differences, plot_rotations, plot_scores, plot_traces
from nwbrnn.sweep import (
    add_data,
    compare_with_baseline,
    compute_interval,
    create_folder,
    create_table,
    describe_data,
    flatten,
    list_cells,
    list_failures,
    read_scores,
    rebuild,
    rebuild_fit,
    results,
    run_cells,
    run_sweep,
    write_results,
)
from nwbrnn.sweep.agreement import compare_seeds, plot_agreement, read_agreement
from nwbrnn.sweep.cell import find_result, get_path, read_cell, run_cell, write_error
from nwbrnn.sweep.page import write_sweep_report
from tests.messages import assert_names, names
from tests.unit.test_training import QUICK, create_recording

pytestmark = [pytest.mark.slow, pytest.mark.cover]

BASE = FitConfig(**QUICK | {"epochs": 3})


def list_some(ds, base=BASE, **grid):
    return list_cells([describe_data("session", ds)], SweepConfig(**grid), base)


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("given", "meant"), [("25%", 0.25), ("100%", "all"), ("20", 20), (" 0 ", 0), ("0.5", 0.5), ("all", "all")]
)
def test_numbers_of_sampled_neurons_as_text(given, meant):
    assert FitConfig(sampled=given).sampled == meant
    assert type(FitConfig(sampled=given).sampled) is type(meant)


@pytest.mark.parametrize("wrong", ["120%", "-5%", "many", "inf", "nan%", -1, 2.5])
def test_wrong_numbers_of_sampled_neurons_are_refused(wrong):
    with pytest.raises(ConfigError, match=names("here", "sampled", repr(wrong))):
        parse_settings(FitConfig, {"sampled": wrong}, source="here")


def test_all_neurons_can_be_sampled():
    assert choose_sampled(create_recording(), n_sampled="all")["sampled"].values.all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vary": {"seed": [1]}}, ["command line", "vary", "got seed"]),
        ({"vary": {"nothing": [1]}}, ["command line", "vary", "got nothing"]),
        ({"held_out": "muscles"}, ["held_out", "'trials', 'condition', 'outputs' or 'between'", "'muscles'"]),
        ({"sampled": []}, ["command line", "sampled", "at least 1", "[]"]),
    ],
)
def test_wrong_grids_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=names(*message)) as caught:
        parse_settings(SweepConfig, wrong, source="command line")
    assert len(caught.value.args) == 1


# ------------------------------------------------------------------ the grid


def test_every_combination_is_a_cell_once():
    cells = list_some(
        create_recording(),
        sampled=(0, 2, "50%"),
        seeds=3,
        held_out="condition",
        vary={"dynamics_weight": [0.1, 1]},
    )
    assert len(cells) == 4 * 3 * (1 + 2 * 2)  # conditions, seeds; without neurons the weight means nothing
    assert len({cell.key for cell in cells}) == len(cells)
    assert {cell.config.held_out_conditions for cell in cells} == {("0",), ("1",), ("2",), ("3",)}
    assert {cell.config.dynamics_weight for cell in cells if cell.config.sampled == 0} == {0.0}
    assert {cell.config.processes for cell in cells} == {1}


def test_a_key_changes_with_data_and_settings_only():
    ds = create_recording()
    first, again = (list_some(ds, sampled=(2,), seeds=1)[0].key for _ in range(2))
    assert first == again
    assert list_some(ds, BASE.model_copy(update={"tau": 0.2}), sampled=(2,), seeds=1)[0].key != first
    changed = dataclasses.replace(describe_data("session", ds), data_hash="1" * 64)
    other = list_cells([changed], SweepConfig(sampled=(2,), seeds=1), BASE)[0].key
    assert other != first


def test_every_other_condition_in_the_order_of_numbers():
    ds = create_recording()
    names = np.array(["270", "0", "90", "180"])[ds["condition"].values.astype(int)]
    cells = list_some(ds.assign_coords(condition=("trial", names)), sampled=(0,), seeds=1, held_out="between")
    assert [cell.config.held_out_conditions for cell in cells] == [("90", "270")]


def test_only_the_outputs_of_conditions():
    cells = list_some(create_recording(), sampled=(2,), seeds=1, held_out="outputs")
    assert {cell.config.held_out for cell in cells} == {"outputs"}


def test_too_few_conditions_are_refused():
    ds = create_recording().isel(trial=slice(2))
    with pytest.raises(ConfigError, match=names("held_out", "3 conditions", "session", 2, "'trials'")):
        list_some(ds, held_out="condition")


def test_a_hash_of_the_data_sees_every_value():
    ds = create_recording()
    changed = ds.copy(deep=True)
    changed["outputs"].values[3, 4, 1] += 1e-6
    relabelled = ds.assign_coords(condition=("trial", np.roll(ds["condition"].values, 1)))
    hashes = {hash_dataset(one) for one in (ds, ds.copy(deep=True), changed, relabelled)}
    assert len(hashes) == 3


def test_a_hash_survives_files(tmp_path):
    ds = create_recording()
    ds = ds.assign_coords(condition=("trial", ds["condition"].values.astype("U20")))
    write_dataset(ds, tmp_path / "session.nc")
    assert hash_dataset(read_dataset(tmp_path / "session.nc")) == hash_dataset(ds)


def test_other_data_of_the_same_name_are_not_taken_for_those_of_a_cell(tmp_path):
    for part in ("data", "cells"):
        (tmp_path / part).mkdir()
    write_dataset(create_recording(seed=1), tmp_path / "data" / "session.nc")
    (cell,) = list_some(create_recording(), sampled=(2,), seeds=1)
    run_cell(tmp_path, cell)
    table = create_table(tmp_path, [cell])
    assert table["status"].values.tolist() == ["failed"]
    assert_names(table["error"].values[0], tmp_path / "data" / "session.nc")


# ------------------------------------------------------------------ cells and tables


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep of three settings, two seeds and one failure."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "data").mkdir()
    (folder / "cells").mkdir()
    ds = create_recording()
    write_dataset(ds, folder / "data" / "session.nc")
    cells = list_some(ds, sampled=(0, 2, 6, 500), seeds=2, held_out="between", resamples=2)
    for cell in cells:
        run_cell(folder, cell)
    return folder, cells, create_table(folder, cells)


def test_a_failed_cell_is_recorded_with_its_reason(finished):
    folder, cells, table = finished
    assert table["status"].values.tolist() == ["done"] * 6 + ["failed"] * 2
    assert_names(table["error"].values[-1], "sampled", 12, "min_rate", 500)
    record = json.loads((folder / "cells" / f"{cells[-1].key}.error.json").read_text())
    assert record["config"]["sampled"] == 500
    assert "Traceback" in record["traceback"]


def test_a_cell_file_has_scores_and_weights(finished):
    folder, cells, table = finished
    saved, asked = read_cell(get_path(folder, cells[2]))
    assert asked == cells[2].config
    recorded, predicted = rebuild(folder, cells[2])
    from nwbrnn.evaluation import evaluate

    scores = evaluate(recorded, predicted)
    for name in ("output R2", "unsampled neurons R2"):
        assert float(saved["value"].sel(score=name)) == pytest.approx(scores.get(name).value, abs=1e-6)
        assert float(table["value"].sel(score=name)[2]) == float(saved["value"].sel(score=name))
    np.testing.assert_allclose(saved["unit_r2"], scores.unit_r2, atol=1e-6)
    assert "output skill, disturbed inputs 0.5" in saved["score"].values
    names = [baseline.name for baseline in BASELINES]
    assert saved["baseline"].values.tolist() == table["baseline"].values.tolist() == names
    # whole conditions are held out: nothing known can be averaged, the task tells
    by_name = saved["baseline_value"].sel(score="output R2")
    assert np.isnan(by_name.sel(baseline=names[0]))
    assert np.isfinite(by_name.sel(baseline=names[1]))
    np.testing.assert_array_equal(table["baseline_value"][2], saved["baseline_value"])


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Return a sweep of three seeds with two settings and two held-out conditions, of which one failed."""
    folder = tmp_path_factory.mktemp("varied")
    base, grid = BASE.model_copy(update={"epochs": 1}), {"sampled": (2,), "seeds": 3, "resamples": 0}
    axes = SweepConfig(**grid, held_out="condition", vary={"hidden": (12, 16)})
    create_folder(folder, ["a.nwb"], axes, (ReadConfig(), base))
    every = add_data(folder, "session", create_recording(), axes, base)
    cells = [cell for cell in every if cell.config.held_out_conditions in (("0",), ("1",))]
    broken = next(
        cell for cell in cells if cell.config.hidden == 16 and cell.config.held_out_conditions == ("1",)
    )
    for cell in cells:
        if cell is broken:
            write_error(folder, cell, "broken")
        else:
            run_cell(folder, cell)
    return folder, cells, broken, create_table(folder, cells)


def test_the_agreement_of_seeds_names_what_varied(varied):
    folder, cells, _, table = varied
    found = compare_seeds(folder, table)
    assert set(zip(found["hidden"], found["held_out"], strict=True)) == {
        ("12", "0"),
        ("12", "1"),
        ("16", "0"),
    }
    keys = [name for name in found.columns if name not in ("mean", "low", "high", "seeds")]
    assert not found.duplicated(keys).any()
    for _, rows in found.groupby(["hidden", "held_out"]):
        hidden, held_out = rows["hidden"].iloc[0], rows["held_out"].iloc[0]
        same = [
            rebuild(folder, cell)[1]
            for cell in cells
            if str(cell.config.hidden) == hidden and cell.config.held_out_conditions == (held_out,)
        ]
        for name, values in compare_networks(same).items():
            row = rows[rows["measure"] == name].iloc[0]
            assert row["mean"] == pytest.approx(np.mean(values), nan_ok=True)
    found.assign(train_trials=None).to_csv(folder / "agreement.csv", index=False, na_rep="None")
    stored = read_agreement(folder / "agreement.csv")
    assert stored["train_trials"].unique().tolist() == ["None"]  # and not a missing value
    assert stored["mean"].dtype == float
    figure = plot_agreement(found)
    (legend,) = figure.legends
    assert ["hidden 12" in text.get_text() for text in legend.get_texts()] == [True, False]
    outputs = found[(found["measure"] == "predicted outputs, R2") & (found["hidden"] == "12")]
    drawn = figure.axes[0].containers[0].lines[0].get_ydata()  # of both conditions
    np.testing.assert_allclose(drawn.astype(float), [outputs["mean"].mean()])


def test_a_cell_that_failed_is_named_with_what_varied(varied, tmp_path):
    folder, _, broken, table = varied
    assert list_failures(table) == [
        {
            "cell": broken.key, "source": "session", "sampled": "2", "hidden": "16", "held_out": "1",
            "seed": "0", "error": "broken",
        }
    ]  # fmt: skip
    write_results(table, folder)
    write_sweep_report(folder, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert_names(page, "hidden 16", "2 sampled", "held out 1", "seed 0")


def test_figures_without_data_are_not_written(varied, monkeypatch):
    folder, _, _, table = varied
    drawn = folder / "figures" / "robustness.png"
    drawn.parent.mkdir(exist_ok=True)
    drawn.touch()  # that of an earlier sweep
    monkeypatch.setattr(results, "FIGURES", {"scores": ("output R2",), "robustness": ("of no fit",)})
    write_results(table, folder)
    assert not drawn.exists()
    assert (folder / "figures" / "scores.png").exists()


def test_a_cell_gives_back_its_assessment(finished):
    folder, cells, _ = finished
    recorded, predicted = rebuild(folder, cells[2])
    stored = {score.name: score for score in read_scores(read_cell(get_path(folder, cells[2]))[0])}
    for score in assess(recorded, predicted, n_resamples=cells[2].resamples):
        found = stored[score.name]
        assert found.value == pytest.approx(score.value, abs=1e-5, nan_ok=True), score.name
        assert [rival.name for rival in found.rivals] == [rival.name for rival in score.rivals]


def test_a_cell_gives_back_what_its_fit_returned(finished):
    folder, cells, _ = finished
    result, expected = rebuild_fit(folder, cells[2]), fit(create_recording(), cells[2].config)
    xr.testing.assert_identical(result.recorded, expected.recorded)
    xr.testing.assert_allclose(result.predicted, expected.predicted)
    run, fitted = result.best, expected.best
    assert (run.seed, run.ended, result.config) == (fitted.seed, fitted.ended, expected.config)
    assert (run.loss, run.free_run) == pytest.approx((fitted.loss, fitted.free_run), rel=1e-6)
    assert list(run.history) == list(fitted.history)
    for name, values in fitted.history.items():
        np.testing.assert_allclose(run.history[name], values, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(run.scores.output_r2, fitted.scores.output_r2, atol=1e-6)


def test_the_table_in_rows(finished):
    frame = flatten(finished[2])
    assert frame["n_sampled"].tolist() == [0, 0, 2, 2, 6, 6, -1, -1]
    assert frame["sampled"].tolist() == ["0", "0", "2", "2", "6", "6", "500", "500"]
    assert frame["output R2"].notna().tolist() == [True] * 6 + [False] * 2
    for baseline in BASELINES[1:3]:
        assert frame[f"output R2, {baseline.name}"].notna().tolist() == [True] * 6 + [False] * 2
    assert f"output R2, {BASELINES[-1].name}" not in frame  # it has no outputs


def test_statistics_have_baselines_and_no_setting_of_their_name(finished):
    statistics = compare_with_baseline(finished[2])
    rows = statistics[(statistics["sampled"] == "2") & (statistics["score"] == "output R2")]
    name = BASELINES[1].name
    column = finished[2]["baseline_value"].sel(score="output R2", baseline=name)
    assert rows[name].iloc[0] == pytest.approx(column[2:4].mean())
    assert name not in list_settings(statistics)


def test_partners_are_compared_on_the_same_neurons(finished):
    table = finished[2]
    statistics = compare_with_baseline(table).set_index(["sampled", "score"])
    row = statistics.loc["6", "unsampled neurons R2"]
    differences = []
    for seed in (0, 1):
        own, base = 4 + seed, seed
        unsampled = ~table["unit_sampled"].values[own]
        medians = [np.median(table["unit_r2"].values[cell][unsampled]) for cell in (own, base)]
        differences.append(medians[0] - medians[1])
    assert row["difference"] == pytest.approx(np.mean(differences))
    assert row["seeds"] == 2
    assert row["better"] == sum(d > 0 for d in differences)
    assert statistics.loc["0", "output R2"]["difference"] == 0
    assert np.isnan(statistics.loc["2", "sampled neurons R2"]["difference"])  # the baseline has none


def test_an_empty_table_has_no_statistics(finished):
    folder, cells, _ = finished
    assert compare_with_baseline(create_table(folder, cells[-2:])).empty


def test_figures_show_what_is_in_the_statistics(finished):
    folder, cells, table = finished
    statistics = compare_with_baseline(table)
    names = ("output R2", "unsampled neurons R2", "no such score")
    figure = plot_scores(statistics, names)
    assert [ax.get_title() for ax in figure.axes] == ["session\noutput R²", "session\nunsampled neurons R²"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0", "2", "6"]
    means = statistics[statistics["score"] == "output R2"]["mean"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), means)
    figure = plot_differences(statistics, names)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["6 sampled", "2 sampled"]
    figure = plot_differences(statistics.assign(dynamics_weight="1.0"), names)
    assert figure.axes[0].get_yticklabels()[0].get_text() == "6 sampled, dynamics weight 1"
    pair = rebuild(folder, cells[2])
    assert len(plot_traces(*pair).axes) == 6
    assert "skew R²" in plot_rotations(*pair).axes[0].get_title()


# ------------------------------------------------------------------ what is damaged


@pytest.fixture
def kept(finished, tmp_path):
    """A sweep of one's own: its folder, two finished cells, and where these are."""
    folder, cells, _ = finished
    shutil.copytree(folder, tmp_path / "sweep")
    pair = cells[2:4]
    return tmp_path / "sweep", pair, [get_path(tmp_path / "sweep", cell) for cell in pair]


def change_netcdf(path, change):
    ds = xr.load_dataset(path, engine="h5netcdf")
    path.write_bytes(change(ds).to_netcdf(engine="h5netcdf"))


def erase_after_heap(path):
    """Write zeros where libhdf5 (2.0.0) then looks for the next text for ever."""
    content = path.read_bytes()
    place = content.index(b"GCOL") + 64
    path.write_bytes(content[:place] + bytes(512) + content[place + 512 :])


DAMAGES = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "empty": lambda path: path.write_bytes(b""),
    "another kind of file": lambda path: path.write_text("x" * 3000),
    "a value": lambda path: change_netcdf(path, lambda ds: ds.assign(value=ds["value"] + 1e-9)),
    "weights of another width": lambda path: change_netcdf(
        path, lambda ds: ds.isel(weights_recurrent_weights_1=slice(3))
    ),
    "an attribute": lambda path: change_netcdf(path, lambda ds: ds.assign_attrs(loss=0.0)),
    "no hash": lambda path: change_netcdf(path, lambda ds: ds.drop_attrs().assign_attrs(
        {k: v for k, v in ds.attrs.items() if k != "hash"}
    )),
    "settings": lambda path: change_netcdf(path, lambda ds: ds.assign_attrs(asked="{}")),
    "no settings": lambda path: change_netcdf(path, lambda ds: ds.assign_attrs(asked="[1]")),
    "a page that was never written": erase_after_heap,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cell_is_named_and_set_aside(kept, damage):
    folder, cells, (path, _) = kept
    damage(path)
    damaged = path.read_bytes()
    for read in (lambda: read_cell(path), lambda: rebuild(folder, cells[0])):
        with pytest.raises(UnsupportedFileError, match=path.name):
            read()
    with pytest.warns(UserWarning, match=rf"{path.name}: .*{path.name}\.damaged"):
        assert find_result(folder, cells[0]) is None
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged
    assert not path.exists()


@pytest.mark.usefixtures("in_process")
def test_a_damaged_cell_is_fitted_again_and_no_other(kept):
    folder, cells, (path, other) = kept
    whole, untouched = read_cell(path)[0], other.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.warns(UserWarning, match=path.name):
        run_cells(folder, cells, n_workers=1)
    xr.testing.assert_identical(read_cell(path)[0]["value"], whole["value"])
    assert other.stat().st_mtime_ns == untouched


@pytest.mark.filterwarnings("ignore:.*damaged:UserWarning")
def test_swapped_cells_are_not_believed(kept):
    folder, cells, paths = kept
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    assert create_table(folder, cells)["status"].values.tolist() == ["missing"] * 2
    assert [path.with_name(f"{path.name}.damaged").read_bytes() for path in paths] == [second, first]


def test_a_damaged_record_of_a_failure_is_named(finished, tmp_path):
    folder, cells, _ = finished
    shutil.copytree(folder, tmp_path / "sweep")
    path = tmp_path / "sweep" / "cells" / f"{cells[-1].key}.error.json"
    for content in (b"{", b"[]", b"\xff", b'{"message'):
        path.write_bytes(content)
        table = create_table(tmp_path / "sweep", cells[-1:])
        assert table["status"].values.tolist() == ["failed"]
        assert path.name in str(table["error"].values[0])


def test_damaged_data_of_a_sweep_are_made_again(tmp_path):
    ds, path = create_recording(), tmp_path / "data" / "session.nc"
    path.parent.mkdir()
    for content in (b"", b"x" * 5000, None):
        if content is not None:
            path.write_bytes(content)
            with pytest.warns(UserWarning, match=r"session\.nc"):
                add_data(tmp_path, "session", ds, SweepConfig(sampled=(2,), seeds=1), BASE)
        assert hash_dataset(read_dataset(path)) == hash_dataset(ds)


@pytest.mark.parametrize("left", [[], [".nwbrnn-0123456789ab-0123456789ab.tmp.json"], ["sweep.json"]])
def test_a_folder_that_a_killed_sweep_left_is_taken_up(tmp_path, left):
    folder = tmp_path / "sweep"
    folder.mkdir()
    for name in left:
        (folder / name).write_text('{"fil')
    create_folder(folder, ["a.nwb"], SweepConfig(), (ReadConfig(), BASE))
    assert json.loads((folder / "sweep.json").read_text())["files"] == ["a.nwb"]
    assert {path.name for path in folder.iterdir()} >= {"sweep.json", "cells", "data"}


@pytest.mark.parametrize("name", ["notes.txt", "data/mine.nc", "cells/mine.nc"])
def test_a_folder_of_somebody_else_is_not_taken(tmp_path, name):
    path = tmp_path / "sweep" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ExportError, match=names(tmp_path / "sweep")):
        create_folder(tmp_path / "sweep", [], SweepConfig(), (ReadConfig(), BASE))
    assert [p for p in (tmp_path / "sweep").rglob("*") if p.is_file()] == [path]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("end_at", ["write_about", "read_nwb", "add_data"])
def test_a_sweep_that_ended_before_its_first_fit_goes_on(recording, tmp_path, monkeypatch, end_at):
    def end(*_, **__):
        raise KeyboardInterrupt

    folder, grid = tmp_path / "sweep", SweepConfig(sampled=(2,), seeds=1, resamples=0)
    configs = ReadConfig(), BASE.model_copy(update={"min_rate": 0.0, "processes": 1})
    with monkeypatch.context() as patch:
        patch.setattr(f"nwbrnn.sweep.run.{end_at}", end)
        with pytest.raises(KeyboardInterrupt):
            run_sweep([recording.path], folder, grid, configs=configs)
    (tmp_path / "bad.nwb").write_text("no")
    with pytest.raises(ReadError, match=r"bad\.nwb"):
        run_sweep([recording.path, tmp_path / "bad.nwb"], folder, grid, configs=configs)
    table = run_sweep([recording.path], folder, grid, configs=configs)
    assert table["status"].values.tolist() == ["done"]
    assert json.loads((folder / "sweep.json").read_text())["files"] == [str(recording.path)]


@pytest.mark.parametrize("name", ["sweep.json", "table.nc"])
@pytest.mark.parametrize("content", [b"", b'{"fil', b"[1]", b"x" * 99, b"{}"])
def test_a_page_on_damaged_results_is_refused(finished, tmp_path, name, content):
    table = finished[2]
    create_folder(tmp_path / "sweep", ["a.nwb"], SweepConfig(), (ReadConfig(), BASE))
    (tmp_path / "sweep" / "table.nc").write_bytes(table.to_netcdf(engine="h5netcdf"))
    (tmp_path / "sweep" / name).write_bytes(content)
    with pytest.raises(UnsupportedFileError, match=name):
        write_sweep_report(tmp_path / "sweep", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


# ------------------------------------------------------------------ statistics


def test_with_one_condition_the_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 10))
    expected = scipy.stats.ttest_rel(first, second).confidence_interval()
    found = compute_interval((first - second)[:, np.newaxis])
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high])
    assert found.freedom == 9


@pytest.mark.parametrize(("seed_sd", "condition_sd"), [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_the_interval_covers_the_mean_of_other_seeds_and_conditions(seed_sd, condition_sd):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        effects = seed_sd * rng.standard_normal((5, 1)) + condition_sd * rng.standard_normal((1, 8))
        found = compute_interval(0.3 + effects + 0.5 * rng.standard_normal((5, 8)))
        covered += found.low <= 0.3 <= found.high
    assert 0.925 <= covered / 600 <= 0.99


def test_intervals_of_too_little_are_nan():
    assert np.isnan(compute_interval(np.array([[0.5]])).low)
    assert np.isnan(compute_interval(np.array([[np.nan, np.nan]])).mean)
    found = compute_interval(np.array([[0.5, np.nan], [0.7, 0.6]]))
    assert found.mean == pytest.approx(0.6)


def create_statistics_table(values, seeds, conditions, sampled):
    n = len(values)
    return xr.Dataset(
        {
            name: (("cell", "score"), np.array(values, dtype=float)[:, np.newaxis])
            for name in ("value", "known_average")
        }
        | {
            name: (("cell", "score"), np.full((n, 1), np.nan))
            for name in ("noise_ceiling", "reliability", "chance")
        }
        | {"baseline_value": (("cell", "score", "baseline"), np.full((n, 1, 1), 0.25))}
        | {"unit_r2": (("cell", "unit"), np.zeros((n, 1)))}
        | {"unit_sampled": (("cell", "unit"), np.zeros((n, 1), dtype=bool))},
        coords={
            "cell": [f"c{i}" for i in range(n)],
            "score": ["Procrustes angle"],
            "baseline": ["condition average"],
            "source": ("cell", ["a"] * n),
            "held_out": ("cell", conditions),
            "seed": ("cell", seeds),
            "n_sampled": ("cell", [int(s) for s in sampled]),
            "seconds": ("cell", np.zeros(n)),
            "chosen": ("cell", [""] * n),
            "sampled": ("cell", sampled),
            "error": ("cell", [""] * n),
            "status": ("cell", ["done"] * n),
        },
    )


def test_pairs_by_hand_and_angles_are_better_when_smaller():
    table = create_statistics_table(
        values=[10, 20, 30, 40, 9, 21, 27, 38],
        seeds=[0, 1, 0, 1] * 2,
        conditions=["x", "x", "y", "y"] * 2,
        sampled=["0"] * 4 + ["5"] * 4,
    )
    row = compare_with_baseline(table).set_index("sampled").loc["5"]
    # differences: -1 and -3 for seed 0, 1 and -2 for seed 1
    assert row["difference"] == pytest.approx(-1.25)
    assert (row["better"], row["seeds"]) == (2, 2)
    assert (row["conditions_better"], row["conditions"]) == (1, 2)
    assert row["baseline"] == pytest.approx(25)
    assert row["effect"] == pytest.approx(-1.25 / np.std([-2, -0.5], ddof=1))
    variance = np.var([-2, -0.5], ddof=1) / 2 + np.var([0, -2.5], ddof=1) / 2
    freedom = variance**2 / ((np.var([-2, -0.5], ddof=1) / 2) ** 2 + (np.var([0, -2.5], ddof=1) / 2) ** 2)
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert row["high"] - row["low"] == pytest.approx(2 * half)


def test_pooled_sources_count_as_seeds():
    one = create_statistics_table([1, 2], [0, 0], ["x", "x"], ["0", "5"])
    other = create_statistics_table([5, 8], [0, 0], ["x", "x"], ["0", "5"]).assign_coords(
        source=("cell", ["b"] * 2)
    )
    statistics = compare_with_baseline(xr.concat([one, other], "cell"), pooled=True)
    row = statistics.set_index("sampled").loc["5"]
    assert "source" not in statistics
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx(2)
    assert isinstance(statistics, pd.DataFrame)
