"""The report: what the page says, that nothing from a file can run on it, and that it works in a browser."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nwbrnn
from nwbrnn.config import FitConfig, SweepConfig
from nwbrnn.dataset import get_unit_ids
from nwbrnn.evaluation import Score
from nwbrnn.evaluation.baselines import GATED
from nwbrnn.report import fit_page, trials
from nwbrnn.report.html import embed_json, render_matrix, round_values
from nwbrnn.report.verdict import CHANCE, GRADES, grade
from nwbrnn.sweep import create_table, describe_data, list_cells, write_results
from nwbrnn.sweep.cell import run_cell
from tests.messages import assert_names

pytestmark = pytest.mark.slow

HOSTILE = (
    "<script>document.title='hacked'</script>",
    "\"onmouseover=\"document.title='hacked'",
    "</script><img src=x onerror=\"document.title='hacked'\">$\\frac{1}{0}$",
)
WIDTHS = (1280, 390)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stored(recording, tmp_path_factory):
    """Return a result whose names are hostile, and its file."""
    ds = nwbrnn.read_nwb(recording.path)
    condition = np.where(ds["condition"].values == "90", HOSTILE[0], ds["condition"].values)
    ds = ds.assign_coords(
        output=np.array(HOSTILE), condition=("trial", condition), output_units=("output", np.array(HOSTILE))
    )
    choices = json.loads(ds.attrs["choices"])
    choices[0] |= {"picked": HOSTILE[2], "alternatives": [HOSTILE[0]]}
    ds.attrs |= {"session_description": HOSTILE[0], "choices": json.dumps(choices)}
    result = nwbrnn.fit(ds, epochs=4, hidden=15, method="gradient", sampled=4, seed=1, min_rate=0.0)
    path = tmp_path_factory.mktemp("report") / "fit.nwb"
    nwbrnn.write_fit(result, recording.path, path)
    return result, path


@pytest.fixture(scope="module")
def page(stored, tmp_path_factory):
    """Return the path of the page that the command makes of it."""
    from nwbrnn.cli.main import app

    path = tmp_path_factory.mktemp("page") / "report.html"
    app(["report", str(stored[1]), "-o", str(path)], standalone_mode=False)
    return path


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def observed(recording, tmp_path_factory):
    """Return a fit that observes neurons, its output names hostile, and its page."""
    ds = nwbrnn.read_nwb(recording.path).assign_coords(output=np.array(HOSTILE))
    result = nwbrnn.fit(ds, observe="sampled", epochs=4, hidden=15, sampled=4, seed=1, min_rate=0.0)
    path = tmp_path_factory.mktemp("observed") / "report.html"
    fit_page.write_fit_report(
        result, path, assessment=nwbrnn.assess(result.recorded, result.predicted, n_resamples=0)
    )
    return result, path


def find_script(text):
    return re.search(r"<script>(.*?)</script>", text, flags=re.DOTALL)[1]


def read_data(text):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)[1]
    )


# ------------------------------------------------------------------ what it says


@pytest.mark.slow
def test_the_command_ends_with_the_verdict_and_the_page(stored, run_cli, tmp_path):
    page = tmp_path / "page.html"
    finished = run_cli("report", stored[1], "-o", page, "--gru")
    assert finished.code == 0
    verdict, where = finished.out.splitlines()
    text = page.read_text(encoding="utf-8")
    assert GATED in text
    (shown,) = re.findall('<p class="verdict">(.*?)</p>', text)
    assert shown == verdict
    assert_names(where, page)


@pytest.mark.slow
def test_commands_import_nothing_heavy_that_they_do_not_use(stored, recording, tmp_path):
    """In one process, from the lightest command to the heaviest."""
    code = (
        "import json, sys\nfrom nwbrnn.cli.main import app\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    try:\n        app(line, standalone_mode=False)\n"
        "    except SystemExit:\n        pass\n"
        "    print('\\nmodules', *sys.modules)\n"
    )
    lines = [
        ["inspect", str(recording.path)],
        ["doctor", str(recording.path)],
        ["evaluate", str(stored[1])],
        ["report", str(stored[1]), "-o", str(tmp_path / "report.html")],
    ]
    command = [sys.executable, "-c", code, json.dumps(lines)]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    found = [set(line.split()) for line in finished.stdout.splitlines() if line.startswith("modules ")]
    inspected, examined, evaluated, reported = found
    used = {"nwbrnn.readers.inspect", "nwbrnn.readers.doctor", "nwbrnn.prediction", "nwbrnn.report"}
    assert [len(used & modules) for modules in found] == [1, 2, 3, 4]
    never = {"torch", "numba", "nwbrnn.models", "nwbrnn.training", "scipy.signal", "scipy.stats", "sklearn"}
    assert not reported & never
    assert not evaluated & {"matplotlib", "nwbrnn.plot"}
    assert not examined & {"nwbrnn.evaluation", "scipy.optimize", "scipy.linalg", "scipy.ndimage"}
    assert not inspected & {"scipy.ndimage", "scipy.special", "dask.array"}


def test_the_verdict_gives_the_scores(stored, text):
    result = nwbrnn.read_fit(stored[1])
    expected = {score.name: score for score in nwbrnn.assess(result.recorded, result.predicted)}
    shown = dict(re.findall(r'data-score="([^"]+)" data-value="([^"]+)"', text))
    assert set(shown) == {"output R2", "sampled neurons R2", "unsampled neurons R2"}
    for name, value in shown.items():
        assert float(value) == pytest.approx(expected[name].value, abs=1e-6)
    for name, row in zip(
        shown, re.findall(r"<tr>.*?data-score=.*?</tr>", text, flags=re.DOTALL), strict=True
    ):
        ceiling = re.search(r'data-label="noise ceiling">([^<]*)<', row)[1].replace("−", "-")
        assert float(ceiling) == pytest.approx(expected[name].noise_ceiling, abs=0.006)


@pytest.mark.parametrize(
    ("value", "ceiling", "chance", "low", "words"),
    [
        (0.95, 0.96, -0.5, 0.9, GRADES[0][1]),
        (0.80, 0.95, -0.5, 0.7, "well"),
        (0.60, 0.95, -0.5, 0.5, "in part"),
        (0.20, 0.95, -0.5, 0.1, "weakly"),
        (0.20, 0.95, -0.5, -0.1, CHANCE),
        (0.60, 0.95, 0.65, 0.55, CHANCE),
        (-3.0, 0.95, -9.0, -3.1, CHANCE),
        (0.60, np.nan, np.nan, np.nan, "in part"),
        (0.97, np.nan, np.nan, np.nan, "almost perfectly"),
        (np.nan, 0.95, 0.0, np.nan, None),
    ],
)
def test_words_follow_the_share_of_the_ceiling(value, ceiling, chance, low, words):
    assert (
        grade(Score("output R2", "condition averages", value, noise_ceiling=ceiling, chance=chance, low=low))
        == words
    )


def test_what_is_drawn_is_what_was_recorded_and_predicted(stored, text):
    result, data = stored[0], read_data(text)
    recorded = result.recorded
    assert [one["name"] for one in data["outputs"]] == list(HOSTILE)
    assert len(data["rates"]) == recorded.sizes["unit"]
    assert data["conditions"].index(HOSTILE[0]) >= 0
    condition = data["conditions"].index("180°")
    chosen = (recorded["split"].values == "test") & (recorded["condition"].values == "180")
    for name, kind in (("recorded", recorded), ("network", result.predicted)):
        expected = kind["outputs"].values[chosen, :, 1].mean(axis=0)
        drawn = np.array(data["outputs"][1][name][condition])
        np.testing.assert_allclose(drawn, expected, atol=2e-3 * np.ptp(expected) + 1e-3)
        expected = kind["rates"].values[chosen, :, 5].mean(axis=0)
        np.testing.assert_allclose(data["rates"][5][name][condition], expected, atol=0.05)
    assert {one["group"] for one in data["rates"]} == {"sampled", "not sampled"}


def test_single_trials_are_drawn_as_recorded_and_predicted_with_and_without_neurons(observed):
    result, page = observed
    data, recorded = read_data(page.read_text(encoding="utf-8")), result.recorded
    tests = np.flatnonzero(recorded["split"].values == "test")
    numbers = [int(trial["name"].partition(",")[0]) for trial in data["trials"]]
    assert sorted(numbers) == sorted(recorded["trial"].values[tests].tolist())
    rows = [recorded["trial"].values.tolist().index(number) for number in numbers]
    conditions = recorded["condition"].values[rows].astype(float)
    assert conditions.tolist() == sorted(conditions)
    assert {one["name"] for one in data["trialOutputs"]} == set(HOSTILE)
    assert len(data["trialRates"]) == 8
    blind = result.predict(recorded["inputs"].values)  # inputs alone: nothing is observed
    for kind in ("outputs", "rates"):
        names = list(HOSTILE) if kind == "outputs" else [f"unit {unit}" for unit in get_unit_ids(recorded)]
        for one in data["trialOutputs" if kind == "outputs" else "trialRates"]:
            channel = names.index(one["name"].partition(", ")[0])
            sources = {"recorded": recorded, "network": result.predicted, "blind": blind}
            for name, ds in sources.items():
                expected = ds[kind].values[rows, :, channel]
                np.testing.assert_allclose(one[name], expected, atol=2e-3 * np.ptp(expected) + 1e-3)
    groups = {one["name"].partition(", ")[2] for one in data["trialRates"]}
    assert groups == {"observed", "not observed"}
    scale = recorded["output_scale"].values
    truth, network = (ds["outputs"].values / scale for ds in (recorded, result.predicted))
    variance = np.square(truth[tests] - truth[tests].mean(axis=(0, 1))).mean(axis=(0, 1)).sum()
    error = np.square(truth[rows[2]] - network[rows[2]]).mean(axis=0).sum()
    assert data["trials"][2]["network"] == pytest.approx(1 - error / variance, abs=1e-5)


def test_more_trials_than_a_page_has_room_for_are_thinned_out(observed, monkeypatch):
    recorded = observed[0].recorded
    monkeypatch.setattr(trials, "MAX_NUMBERS", 3 * recorded.sizes["time"] * (3 + 8) * 5)
    drawn = trials.collect_trials(observed[0])
    assert len(drawn["trials"]) == len(drawn["trialOutputs"][0]["recorded"]) == 5
    conditions = {trial["name"].partition("condition ")[2] for trial in drawn["trials"]}
    assert len(conditions) == 4


def test_a_page_on_a_fit_without_observer_has_no_single_trials(text):
    assert 'id="trials"' not in text
    assert "trialOutputs" not in read_data(text)


@pytest.mark.cover
def test_more_neurons_than_a_page_has_room_for_are_thinned_out(stored, tmp_path, monkeypatch):
    result = stored[0]
    one = 3 * result.recorded.sizes["time"] * 4  # recorded, network and error in four conditions
    monkeypatch.setattr(fit_page, "MAX_NUMBERS", 5 * one)
    scores = nwbrnn.assess(result.recorded, result.predicted)
    fit_page.write_fit_report(result, tmp_path / "report.html", assessment=scores)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    drawn = [one["r2"] for one in read_data(text)["rates"]]
    assert len(drawn) == 5
    assert min(drawn) == pytest.approx(result.scores.unit_r2.min())
    assert max(drawn) == pytest.approx(result.scores.unit_r2.max())
    assert re.search(r"\b5 of (the )?12\b", text)


def test_settings_and_provenance_are_there(stored, text):
    attrs = stored[0].recorded.attrs
    for value in (attrs["source_sha256"], attrs["source_identifier"], "torch 2.", "gradient", "fit.nwb"):
        assert value in text
    for choice in json.loads(attrs["choices"]):
        assert html.escape(choice["reason"], quote=True).replace("&#x27;", "&#39;") in text


# ------------------------------------------------------------------ nothing from a file can run


def test_the_only_script_is_allowed_by_its_hash(text):
    script = find_script(text)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert len(re.findall(r"<script", text)) == 2  # it and the data
    assert not re.search(
        r"\son[a-z]+\s*=\s*[\"']", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    )
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", script)


def test_nothing_is_loaded_from_elsewhere(text):
    links = re.findall(r'\b(?:src|href|action|srcset|data|poster)\s*=\s*"([^"]*)"', text)
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert all(link.startswith(("#", "data:")) for link in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert not re.search(r"<(?:link|iframe|object|embed|base|form)\b", text)


def test_hostile_strings_are_escaped(text):
    for name in HOSTILE:
        assert name not in text
    assert "&lt;script&gt;document.title=&#39;hacked&#39;&lt;/script&gt;" in text


def test_json_cannot_end_its_element():
    values = {"a": "</script><!--&\u2028\u2029\ud800", "b": [float("nan"), 1.5]}
    embedded = str(embed_json(values))
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == {"a": values["a"], "b": [None, 1.5]}


def test_numbers_keep_a_thousandth_of_their_range():
    values = np.array([20.01234, 20.11234, np.nan])
    rounded = round_values(values)
    np.testing.assert_allclose(rounded, values, atol=1e-4)
    assert len(str(rounded[0])) <= 8


def test_a_large_matrix_becomes_a_small_image():
    import io

    from matplotlib.image import imread

    address, _ = render_matrix(np.eye(1001))
    pixels = imread(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert pixels.shape[:2] == (333, 333)
    assert pixels[5, 5, 0] > pixels[5, 5, 2]  # red on the diagonal
    np.testing.assert_allclose(pixels[5, 50, :3], 0.97, atol=0.03)  # white elsewhere
    assert render_matrix(np.array([[0.0, -2.0], [2.0, 0.0]]))[1] == 2  # the value of the deepest colours


# ------------------------------------------------------------------ the command


def test_a_page_is_not_overwritten_unasked(stored, run_cli, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("precious")
    finished = run_cli("report", stored[1], "-o", out)
    assert finished.code == 2
    assert "--overwrite" in finished.err
    assert out.read_text() == "precious"
    assert run_cli("report", stored[1], "-o", tmp_path / "report.pdf").code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


@pytest.fixture(scope="module")
def sweep(recording, tmp_path_factory):
    """Return the folder of a small sweep, made in this process, and its statistics."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "cells").mkdir()
    (folder / "data").mkdir()
    ds = nwbrnn.read_nwb(recording.path)
    nwbrnn.write_dataset(ds, folder / "data" / "session.nc")
    small = FitConfig(hidden=15, epochs=2, method="gradient", min_rate=0.0)
    grid = SweepConfig(sampled=(0, 3), seeds=1, held_out="trials", resamples=0)
    cells = list_cells([describe_data("session", ds)], grid, small)
    for cell in cells:
        run_cell(folder, cell)
    about = {"files": [HOSTILE[0]], "fit": small.model_dump(mode="json")}
    (folder / "sweep.json").write_text(json.dumps(about), encoding="utf-8")
    return folder, write_results(create_table(folder, cells), folder)


@pytest.mark.cover
def test_a_sweep_becomes_a_page(sweep, run_cli, tmp_path):
    made, statistics = sweep
    folder = tmp_path / "sweep"
    shutil.copytree(made, folder)
    out = tmp_path / "sweep.html"
    finished = run_cli("report", folder, "-o", out)
    assert (finished.code, finished.err) == (0, "")
    text = out.read_text(encoding="utf-8")
    row = statistics[(statistics["score"] == "output R2") & (statistics["sampled"] == "3")].iloc[0]
    for value in (row["mean"], row["difference"]):
        assert f">{value:.3f}".replace("-", "−") in text
    assert "2 of 2" in text
    assert text.count("<svg") >= 3
    assert HOSTILE[0] not in text
    assert "http://" not in text.replace(find_script(text), "")
    (folder / "table.nc").unlink()
    finished = run_cli("report", folder, "-o", out, "--overwrite")
    assert finished.code == 2
    assert_names(finished.err, folder / "table.nc")
    assert out.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("given", [("--gru",), ("--unit", "3"), ("--name", "fit")])
def test_options_of_a_fit_are_refused_for_a_sweep(given, sweep, run_cli, tmp_path):
    finished = run_cli("report", sweep[0], "-o", tmp_path / "sweep.html", *given)
    assert finished.code == 2
    assert_names(finished.err, given[0], sweep[0])
    assert not list(tmp_path.iterdir())


def test_the_examples_of_the_page_on_reports_run(stored, sweep, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    (tmp_path / "fit.nwb").symlink_to(stored[1])
    (tmp_path / "sweep").symlink_to(sweep[0])
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    plt.close("all")
    assert len(names["figure"].axes) == 4
    assert (tmp_path / "outputs.pdf").read_bytes().startswith(b"%PDF")
    assert "PC 1" in (tmp_path / "fit.svg").read_text(encoding="utf-8")


# ------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return headless Chromium; without it the test is skipped, or fails if NWBRNN_REQUIRE_BROWSER=1."""
    try:
        driver = start_browser(tmp_path_factory.mktemp("profile"))
    except Exception as error:
        reason = f"no Chromium to drive ({error}); install chromium, chromedriver and selenium"
        if os.environ.get("NWBRNN_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield driver
    driver.quit()


def start_browser(profile):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for found in map(shutil.which, names) if found), None)
    chromedriver = shutil.which("chromedriver")
    if program is None or chromedriver is None:  # selenium would look for them on the network
        raise FileNotFoundError("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromedriver))


def open_page(browser, path, *, width=1280):
    """Open a page and return the console messages and the addresses that were asked for."""
    browser.get("about:blank")  # whatever was open before asks for nothing any more
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    wait_for_drawing(browser)
    return browser.get_log("browser"), list_requests(browser)


def wait_for_drawing(browser):
    """Wait until what the page does after it was loaded or resized is done: two frames."""
    script = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(1)));"
    browser.execute_async_script(script)


def list_requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if not one["documentURL"].startswith("chrome://")]


@pytest.mark.parametrize("width", WIDTHS)
def test_it_loads_quietly_and_fits_the_screen(browser, page, width):
    console, requests = open_page(browser, page, width=width)
    assert console == []
    assert [url for url in requests if not url.startswith("data:image/png")] == [page.as_uri()]
    sizes = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert sizes[0] == sizes[1] <= width
    panels = browser.find_elements("css selector", ".browser[data-kind=outputs] .panels svg")
    assert len(panels) == 4
    assert all(panel.size["width"] > 100 for panel in panels)


def read_paths(browser, kind):
    script = "return [...document.querySelectorAll(arguments[0])].map((path) => path.getAttribute('d'))"
    return browser.execute_script(script, f".browser[data-kind={kind}] path.recorded")


def test_another_output_and_one_condition_can_be_chosen(browser, page):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    open_page(browser, page)
    root = browser.find_element("css selector", ".browser[data-kind=outputs]")
    channel = Select(root.find_element("css selector", "select.channel"))
    before, caption = read_paths(browser, "outputs"), root.find_element("css selector", ".caption")
    other = next(option for option in channel.options if not option.is_selected())
    channel.select_by_visible_text(other.text)
    after = read_paths(browser, "outputs")
    assert len(after) == len(before) == 4
    assert all(first != second for first, second in zip(before, after, strict=True))
    assert caption.text.startswith(other.text.partition(" · ")[0])
    Select(root.find_element("css selector", "select.condition")).select_by_visible_text("180°")
    assert len(read_paths(browser, "outputs")) == 1
    next_button = root.find_element("css selector", "button.next")
    chosen = channel.first_selected_option.text
    next_button.send_keys(Keys.ENTER)  # by the keyboard
    assert channel.first_selected_option.text != chosen
    root.find_element("css selector", "button.previous").send_keys(Keys.ENTER)
    assert channel.first_selected_option.text == chosen


def test_a_neuron_can_be_chosen_among_all(browser, page, text):
    open_page(browser, page)
    before = read_paths(browser, "rates")
    circles = browser.find_elements("css selector", ".overview circle")
    r2 = [one["r2"] for one in read_data(text)["rates"]]
    assert len(circles) == sum(value is not None for value in r2)
    circles[0].click()
    assert read_paths(browser, "rates") != before
    caption = browser.find_element("css selector", ".browser[data-kind=rates] .caption").text
    best = max((value, i) for i, value in enumerate(r2) if value is not None)[1]
    assert caption.startswith(f"{read_data(text)['rates'][best]['name']} (")
    chosen = browser.find_elements("css selector", ".overview circle.chosen")
    assert len(chosen) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_a_single_trial_can_be_chosen(browser, observed, width):
    from selenium.webdriver.support.ui import Select

    console, requests = open_page(browser, observed[1], width=width)
    assert console == []
    assert [url for url in requests if not url.startswith("data:image/png")] == [observed[1].as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    root = browser.find_element("css selector", ".trials")
    for kind, number in (("trialOutputs", 3), ("trialRates", 8)):
        for name in ("recorded", "network", "blind"):
            assert len(root.find_elements("css selector", f"[data-kind={kind}] path.{name}")) == number
    trial, caption = Select(root.find_element("css selector", "select.trial")), ".caption"
    before = [path.get_attribute("d") for path in root.find_elements("css selector", "path.recorded")]
    root.find_element("css selector", "button.next").click()
    chosen = trial.first_selected_option.text
    assert chosen == trial.options[1].text
    assert chosen in root.find_element("css selector", caption).text
    after = [path.get_attribute("d") for path in root.find_elements("css selector", "path.recorded")]
    assert all(first != second for first, second in zip(before, after, strict=True))
    trial.select_by_index(len(trial.options) - 1)
    root.find_element("css selector", "button.next").click()  # the first one follows the last
    again = [path.get_attribute("d") for path in root.find_elements("css selector", "path.recorded")]
    assert again == before
    assert HOSTILE[0] in root.text
    assert "hacked" not in browser.title


def test_hostile_strings_show_as_text(browser, page):
    open_page(browser, page)
    assert "hacked" not in browser.title
    shown = browser.find_element("css selector", "body").text
    for name in HOSTILE:
        assert name in shown
    assert browser.find_elements("css selector", "img[src=x], [onmouseover], [onerror]") == []
    title = browser.find_element("css selector", ".browser[data-kind=outputs] svg .title")
    titles = browser.find_elements("css selector", ".browser[data-kind=outputs] svg .title")
    assert HOSTILE[0] in [title.text, *(one.text for one in titles)]


def test_what_is_injected_neither_runs_nor_asks_for_anything(browser, text, tmp_path):
    """The policy is what stops it, whatever the escaping: this page has a hole on purpose."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        attack = (
            "<script>document.title='hacked'</script><img src='x' onerror=\"document.title='hacked'\">"
            f"<img src='http://127.0.0.1:{server.getsockname()[1]}/leak.png'>"
        )
        path = tmp_path / "hole.html"
        path.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
        console, _ = open_page(browser, path)
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "hacked" not in browser.title
    assert len(console) >= 3
    assert all("Content Security Policy" in one["message"] for one in console)


def test_a_printed_page_shows_everything_without_controls(browser, page):
    open_page(browser, page)
    assert browser.find_elements("css selector", "details:not([open])")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.find_elements("css selector", "details:not([open])") == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [one.is_displayed() for one in browser.find_elements("css selector", "nav, .controls")]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(shown) == 3
    assert not any(shown)
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.find_elements("css selector", "details:not([open])")
