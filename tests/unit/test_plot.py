"""Figures of fits: what is drawn, compared with numbers computed by hand."""

import dataclasses
import errno
import os
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import nwbrnn
from nwbrnn.errors import ConfigError, ExportError
from nwbrnn.mechanism import follow_network
from nwbrnn.preprocessing import average_conditions, compute_standard_errors
from tests.messages import assert_names, names

mpl.use("Agg")


@pytest.fixture(scope="module")
def result(recording):
    ds = nwbrnn.read_nwb(recording.path)
    return nwbrnn.fit(ds, epochs=4, hidden=15, method="gradient", sampled=4, seed=1, min_rate=0.0)


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


def average_by_hand(result, name, dataset, condition):
    """Return the mean over the test trials of a condition, shape (n_time, n_channels)."""
    recorded = result.recorded
    chosen = (recorded["split"].values == "test") & (recorded["condition"].values == condition)
    return dataset[name].values[chosen].astype(float).mean(axis=0)


def find_lines(ax, style):
    return [line for line in ax.lines if line.get_linestyle() == style and len(line.get_xdata()) > 2]


def test_outputs_are_condition_averages_in_the_recorded_unit(result, ax):
    conditions = ["180", "0"]
    assert nwbrnn.plot.outputs(result, "FCU", conditions=conditions, ax=ax) is ax
    channel = result.recorded["output"].values.tolist().index("FCU")
    for style, dataset in (("-", result.recorded), ("--", result.predicted)):
        lines = find_lines(ax, style)
        assert len(lines) == 2
        for line, condition in zip(lines, conditions, strict=True):
            expected = average_by_hand(result, "outputs", dataset, condition)[:, channel]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(line.get_xdata(), result.recorded["time"])
    assert ax.get_ylabel() == f"FCU [{result.recorded['output_units'].values[channel]}]"
    assert_names(ax.get_xlabel(), "time", "go cue", "[s]")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["condition 180°", "condition 0°", "recorded", "network", "standard error"]


def test_conditions_have_the_unit_of_directions_only(result, ax):
    recorded = result.recorded
    column = recorded["target_dir"]
    for units, unit in (({"units": "degrees"}, "°"), ({"units": "radians"}, " rad"), ({}, "")):
        changed = recorded.assign_coords(target_dir=(column.dims, column.values, units))
        one = nwbrnn.FitResult(changed, result.predicted, result.runs, result.config)
        nwbrnn.plot.trajectories(one, conditions=["90"], ax=ax)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == [f"condition 90{unit}", "recorded", "network", "first bin"]


def test_the_legend_of_fixed_points_names_the_colours_of_the_trajectories(result):
    drawn = [Figure().add_subplot() for _ in range(2)]
    nwbrnn.plot.fixed_points(result, ax=drawn[0])
    nwbrnn.plot.trajectories(result, ax=drawn[1])
    names = [f"condition {c}°" for c in (0, 90, 180, 270)]
    colours = []
    for one in drawn:
        handles = one.get_legend().legend_handles[:4]
        assert [text.get_text() for text in one.get_legend().get_texts()][:4] == names
        colours.append([handle.get_color() for handle in handles])
    assert colours[0] == colours[1]
    motion = follow_network(result)  # in the order of the test trials
    tests = average_conditions(result.recorded.isel(trial=result.recorded["split"].values == "test"))
    row = tests["condition"].values.tolist().index("180")
    path = find_lines(drawn[0], "-")[2]
    flat = motion.states.reshape(-1, motion.states.shape[-1])
    lengths = np.linalg.norm(motion.states[row] - flat.mean(axis=0), axis=1)
    assert (np.hypot(*path.get_data()) <= lengths + 1e-6).all()
    plane = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:2]
    expected = np.abs((motion.states[row] - flat.mean(axis=0)) @ plane.T)
    np.testing.assert_allclose(np.abs(np.stack(path.get_data(), axis=1)), expected, atol=1e-4)


def test_the_band_is_one_standard_error(result, ax):
    nwbrnn.plot.rates(result, 2, conditions=[90], ax=ax)
    recorded = result.recorded
    chosen = (recorded["split"].values == "test") & (recorded["condition"].values == "90")
    trials = recorded["rates"].values[chosen, :, 2].astype(float)
    assert len(trials) > 1
    error = trials.std(axis=0, ddof=1) / np.sqrt(len(trials))
    vertices = ax.collections[0].get_paths()[0].vertices
    for time, mean, half in zip(recorded["time"].values, trials.mean(axis=0), error, strict=True):
        here = vertices[np.isclose(vertices[:, 0], time), 1]
        np.testing.assert_allclose([here.min(), here.max()], [mean - half, mean + half], atol=1e-4)
    assert ax.get_ylabel() in ("unit 2 (sampled) [Hz]", "unit 2 (not sampled) [Hz]")


def test_standard_errors_only_count_what_was_recorded(result):
    tests = result.recorded.isel(trial=result.recorded["condition"].values == "0")
    mask = tests["mask"].values.copy()
    mask[:, 0] = False
    mask[0, 0] = True
    mask[0, 1] = False
    found = compute_standard_errors(tests.assign(mask=(("trial", "time"), mask)), "rates")
    rest = tests["rates"].values[1:, 1].astype(float)
    assert np.isnan(found[0, 0]).all()
    np.testing.assert_allclose(found[0, 1], rest.std(axis=0, ddof=1) / np.sqrt(len(rest)), rtol=1e-5)


def test_by_default_the_best_unsampled_neuron_and_the_best_output(result, ax):
    sampled, r2 = result.recorded["sampled"].values, result.scores.unit_r2
    best = max(np.flatnonzero(~sampled), key=lambda unit: r2[unit])
    nwbrnn.plot.rates(result, ax=ax)
    assert ax.get_ylabel() == f"unit {result.recorded['unit'].values[best]} (not sampled) [Hz]"
    new = nwbrnn.plot.outputs(result)
    assert new.get_ylabel().startswith(result.recorded["output"].values[np.argmax(result.scores.output_r2)])
    mpl.pyplot.close(new.figure)


def test_trajectories_are_projections_on_the_principal_components_of_the_recording(result, ax):
    nwbrnn.plot.trajectories(result, ax=ax)
    recorded = result.recorded
    conditions = ["0", "90", "180", "270"]
    normal = []
    for dataset in (recorded, result.predicted):
        rates = np.stack([average_by_hand(result, "rates", dataset, c) for c in conditions])
        normal.append((rates - recorded["rate_offset"].values) / recorded["rate_scale"].values)
    flat = normal[0].reshape(-1, normal[0].shape[-1])
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    axes = vectors[:, ::-1][:, :2]
    for style, population in zip(("-", "--"), normal, strict=True):
        for line, path in zip(find_lines(ax, style), population, strict=True):
            expected = (path - flat.mean(axis=0)) @ axes
            drawn = np.stack(line.get_data(), axis=1)
            signs = np.sign((drawn * expected).sum(axis=0))  # of an eigenvector, arbitrary
            np.testing.assert_allclose(drawn, expected * signs, atol=1e-4)
    share = 100 * values[::-1] / values.sum()
    assert f"({share[0]:.0f} %)" in ax.get_xlabel()
    assert f"({share[1]:.0f} %)" in ax.get_ylabel()


def test_the_spectrum_is_that_of_the_linear_network(result, ax):
    nwbrnn.plot.spectrum(result, ax=ax)
    points = next(line for line in ax.lines if line.get_marker() == "o")
    drawn = points.get_xdata() + 2j * np.pi * points.get_ydata()
    weights = result.weights["recurrent_weights"].astype(float)
    expected = (np.linalg.eigvals(weights) - 1) / result.config.tau
    distances = np.abs(drawn[:, np.newaxis] - expected)
    assert distances.min(axis=0).max() < 1e-6
    assert distances.min(axis=1).max() < 1e-6
    assert ax.get_xlabel().endswith("[1/s]")
    assert ax.get_ylabel().endswith("[Hz]")


def test_the_learning_curve_is_the_history(result, ax):
    nwbrnn.plot.learning_curve(result, terms=["dynamics"], ax=ax)
    for line, name in zip(ax.lines, ("train_dynamics", "validation_dynamics"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), result.history[name])
    assert [line.get_label() for line in ax.lines] == [
        "sampled neurons, training",
        "sampled neurons, validation",
    ]
    with pytest.raises(ConfigError, match=names("terms", "'output'", "'dynamics'", "'outputs'")):
        nwbrnn.plot.learning_curve(result, terms=["outputs"], ax=ax)


def test_the_learning_curve_marks_where_least_squares_ends(result, ax):
    n_losses = len(result.history["train_total"])
    assert min(result.history["learning_rate"]) > 0  # by gradient alone
    rates = [0.0, 0.0] + [0.01] * (n_losses - 2)
    run = dataclasses.replace(result.best, history={**result.history, "learning_rate": rates})
    nwbrnn.plot.learning_curve(dataclasses.replace(result, runs=(run,)), ax=ax)
    (switch,) = (line for line in ax.lines if line.get_linestyle() == ":")
    assert list(switch.get_xdata()) == [2.5, 2.5]


@pytest.fixture
def statistics():
    return pd.DataFrame(
        {
            "source": ["a"] * 3 + ["b"] * 3,
            "sampled": [0, 10, 0.25] * 2,
            "score": ["output R2"] * 6,
            "mean": [0.5, 0.6, 0.7, 0.4, 0.5, 0.6],
            "mean_low": [0.4, 0.5, 0.6, 0.3, 0.4, 0.5],
            "mean_high": [0.6, 0.7, 0.8, 0.5, 0.6, 0.7],
            "noise_ceiling": [0.9] * 6,
            "reliability": [np.nan] * 6,
            "chance": [-3.0] * 6,
        }
    )


def test_the_sampling_curve_shows_means_intervals_and_noise_ceiling(statistics, ax):
    nwbrnn.plot.sampling_curve(statistics, "output R2", ax=ax)
    containers = {container.get_label(): container for container in ax.containers}
    assert set(containers) == {"a", "b"}
    for name, container in containers.items():
        rows = statistics[statistics["source"] == name]
        np.testing.assert_allclose(container.lines[0].get_ydata(), rows["mean"])
        bars = container.lines[2][0].get_segments()
        np.testing.assert_allclose([bar[:, 1] for bar in bars], rows[["mean_low", "mean_high"]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "10", "25 %"]
    assert [line.get_label() for line in ax.lines if line.get_linestyle() == "--"] == ["noise ceiling"]
    bottom, top = ax.get_ylim()
    assert -1 < bottom < 0.3
    assert top > 0.9
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["noise ceiling", "chance", "a", "b"]
    assert [text.get_text() for text in ax.texts] == ["chance \N{MINUS SIGN}3 ↓"]
    with pytest.raises(ConfigError, match=names("score", "'output R2'", "'R2'")):
        nwbrnn.plot.sampling_curve(statistics, "R2", ax=ax)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        ("outputs", {"output": "biceps"}, ["output", "FCR, FCU, ECR", "'biceps'"]),
        ("rates", {"unit": 99}, ["unit", 0, 11, 99]),
        ("rates", {"conditions": ["45"]}, ["condition", "0, 90, 180, 270", "'45'"]),
    ],
)
def test_what_is_not_there_is_refused(result, ax, function, given, message):
    with pytest.raises(ConfigError, match=names(*message)):
        getattr(nwbrnn.plot, function)(result, ax=ax, **given)


def test_vector_files_hold_text_and_no_image(result, ax, tmp_path):
    name = "a $1^$ <b> & $muscle$"
    outputs = result.recorded["output"].values.tolist()
    renamed = result.recorded.assign_coords(output=[name, *outputs[1:]])
    nwbrnn.plot.outputs(nwbrnn.FitResult(renamed, result.predicted, result.runs, result.config), name, ax=ax)
    nwbrnn.plot.save(ax, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert "a $1^$ &lt;b&gt; &amp; $muscle$ [" in text
    assert re.search(r">time [^<]*go cue \[s\]</text>", text)
    assert "<image" not in text
    nwbrnn.plot.save(ax, tmp_path / "figure.pdf")
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    missing = tmp_path / "missing" / "figure.svg"
    with pytest.raises(ExportError, match=names(missing, os.strerror(errno.ENOENT))):
        nwbrnn.plot.save(ax, missing)


@pytest.mark.slow
def test_matplotlib_is_imported_only_with_plot():
    code = (
        "import sys, nwbrnn; assert 'matplotlib' not in sys.modules; nwbrnn.plot.outputs; "
        "assert 'matplotlib' in sys.modules; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
