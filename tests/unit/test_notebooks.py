"""Results and Datasets as people meet them in a notebook: short texts, safe tables, plots with labels."""

import subprocess
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.models import RateRNN
from nwbrnn.readers.doctor import Finding
from tests.messages import assert_names

HOSTILE = "<script>alert('x')</script>&<b onmouseover=y>"


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    shape = (24, 20)
    names = np.array(["FCR", HOSTILE])
    ds = nwbrnn.create_dataset(
        {
            "outputs": rng.random((*shape, 2)),
            "inputs": rng.random((*shape, 1)),
            "rates": rng.uniform(1, 50, (*shape, 8)),
        },
        {"output": names, "condition": np.tile(["a", "b", HOSTILE], 8)},
        bin_size=0.02,
    )
    return nwbrnn.fit(ds, hidden=10, epochs=3, sampled=3, seeds=2, processes=1, seed=5)


class Page(HTMLParser):
    """Collects tags, their attributes and the text of an HTML fragment."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_text_of_a_result_is_short_and_says_what_matters(result):
    text = repr(result)
    lines = text.splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 120
    score = result.scores.get("output R2")
    for part in (
        "24 trials", "8 units (3 sampled)", "2 outputs", "20 bins of 0.02 s", "10 tanh units by auto",
        f"best of 2: Run(seed {result.best.seed}, ",
        f"{score.value:.3f} (known average {score.known_average:.3f})",
    ):  # fmt: skip
        assert part in text, part
    n_test = int((result.recorded["split"] == "test").sum())
    assert f"({n_test} test)" in text


def test_text_of_a_run_and_of_scores(result):
    run = result.runs[1]
    text = repr(run)
    assert "\n" not in text
    assert text.startswith("Run(")
    n_passes = len(run.history["train_total"])
    assert_names(text, f"seed {run.seed}", f"loss {run.loss:.4g}", "finished", n_passes)
    assert f"{run.scores.get('output R2').value:.3f}" in text
    lines = repr(run.scores).splitlines()
    assert_names(lines[0], "Scores", "test", "2 outputs", "8 units", "condition averages")
    names = [score.name for score in run.scores.summary if score.level == "condition averages"]
    assert [line[2:27].strip() for line in lines[1:]] == names


def test_what_is_not_known_is_a_dash_or_left_out():
    from nwbrnn.evaluation import Score

    assert str(Score("x", "y", np.nan, np.nan)) == "–"
    assert str(Score("x", "y", 0.5, np.nan)) == "0.500"
    assert str(Score("x", "y", 0.5, 0.75)) == "0.500 (known average 0.750)"


def test_text_of_a_network(result):
    network = result.build_model()
    assert isinstance(network, RateRNN)
    n_parameters = 10 * 10 + 10 * 1 + 10 + 2 * 10 + 2 + 10
    sizes = ("1 input", "10 tanh units", "2 outputs", "tau 0.1 s", f"{n_parameters} parameters")
    assert_names(repr(network), "RateRNN", *sizes)


def test_page_of_a_result_shows_hostile_names_as_text(result):
    page = Page(result._repr_html_())
    assert page.open == []
    assert set(page.tags) <= {"div", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.attributes <= {"style"}
    assert HOSTILE in page.text
    assert f"{result.scores.output_r2[1]:.3f}" in page.text
    rows = Page(result.scores._repr_html_())
    assert rows.tags.count("tr") == 1 + len({score.name for score in result.scores.summary})
    assert rows.tags.count("td") == 5 * (rows.tags.count("tr") - 1)  # a name, and two pairs of numbers
    for score in result.scores.summary:
        assert f"{score.value:.3f}" in rows.text


def test_an_assessment_is_a_table(result):
    scores = nwbrnn.assess(result.recorded, result.predicted)
    page = Page(scores._repr_html_())
    known = [score for score in scores if np.isfinite(score.value)]
    assert page.tags.count("tr") == 1 + len(known)
    assert all(score.name in page.text and f"{score.value:.3f}" in page.text for score in known)
    frame = scores.to_dataframe()
    assert frame.index.tolist() == [score.name for score in scores]
    output = scores.get("output R2")
    assert frame.loc["output R2", "value"] == output.value
    assert frame.loc["output R2", output.rivals[0].name] == output.rivals[0].value
    with pytest.raises(LookupError, match="'nothing'"):
        scores.get("nothing")
    summary = result.scores.to_dataframe()
    score = result.scores.get("output R2")
    assert summary.loc[("output R2", score.level), "known_average"] == score.known_average


def test_what_is_in_a_file_is_a_table(recording):
    found = nwbrnn.inspect_nwb(recording.path)
    page = Page(found._repr_html_())
    assert page.open == []
    for part in [*(one["path"] for one in found.signals), *(one.picked for one in found.choices)]:
        assert part in page.text
    refused = nwbrnn.inspect_nwb(recording.path, outputs=HOSTILE)
    assert refused.problem is not None
    assert any(HOSTILE in text for text in Page(refused._repr_html_()).text)


def test_findings_are_a_table(recording):
    findings = nwbrnn.diagnose(recording.path)
    hostile = type(findings)([Finding("rule", HOSTILE, "problem", "remedy", biases=True), *findings])
    page = Page(hostile._repr_html_())
    assert page.open == []
    assert HOSTILE in page.text
    assert page.tags.count("tr") == 2 + len(findings)
    assert hostile.to_dataframe()["object"].tolist() == [one.object for one in hostile]
    assert "found nothing" in type(findings)()._repr_html_()
    assert type(findings)().to_dataframe().empty


@pytest.mark.slow
def test_text_of_a_stored_result_needs_no_torch(result, teacher, tmp_path):
    small = nwbrnn.fit(teacher.ds, hidden=10, epochs=2, sampled=3)
    nwbrnn.write_fit(small, teacher.path, tmp_path / "fit.nwb")
    code = (
        f"import sys, nwbrnn; r = nwbrnn.read_fit({str(tmp_path / 'fit.nwb')!r}); print(r); r._repr_html_(); "
        "sys.exit('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"{small!r}\n"


def test_a_dataset_indexes_and_plots_with_labels(teacher, monkeypatch):
    monkeypatch.setattr(mpl, "rcParams", mpl.rcParams.copy())
    mpl.use("agg")
    import matplotlib.pyplot as plt

    ds = nwbrnn.read_nwb(teacher.path)
    name = ds["output"].values[1]
    (line,) = ds["outputs"].sel(output=name).mean("trial").plot()
    np.testing.assert_allclose(line.get_ydata(), ds["outputs"].values[:, :, 1].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(line.get_xdata(), ds["time"].values)
    axes = line.axes
    assert axes.get_xlabel() == "time [s]"
    assert axes.get_ylabel() == f"outputs [{ds['outputs'].attrs['units']}]"
    plt.close(axes.figure)
    condition = ds["condition"].values[0]
    assert (ds.sel(trial=ds["condition"] == condition)["condition"] == condition).all()
    assert ds["rates"].sel(time=slice(0, 0.1))["time"].size == 10
    assert ds.groupby("condition").mean()["rates"].sizes["condition"] == 4


def run_notebook(cells, folder):
    """Return the outputs of each cell."""
    nbformat = pytest.importorskip("nbformat", reason="the packages of notebooks are not installed")
    nbclient = pytest.importorskip("nbclient", reason="the packages of notebooks are not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    limits = {"timeout": 600, "startup_timeout": 600}
    nbclient.NotebookClient(book, **limits, kernel_name="python3", resources=resources).execute()
    return [cell.outputs for cell in book.cells]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client, about its event loop
def test_a_fit_in_a_notebook_shows_how_far_it_is(teacher, tmp_path):
    cells = [
        f"import nwbrnn; ds = nwbrnn.read_nwb({str(teacher.path)!r}); small = dict(hidden=10, sampled=3)",
        "one = nwbrnn.fit(ds, epochs=3, stop_after=3, **small)",
        "two = nwbrnn.fit(ds, seeds=2, processes=1, epochs=2, **small)",
        "none = nwbrnn.fit(ds, epochs=2, progress=False, **small)",
        "own = nwbrnn.fit(ds, epochs=2, progress=lambda *_: print('own'), **small)",
        "print(len(one.history['train_total']), one.history['train_output'][-1])",
    ]
    read, one, two, none, own, known = run_notebook(cells, tmp_path)
    assert read == none == []
    n_epochs, error = known[0]["text"].split()
    (line,) = one  # which changed until it showed the last epoch
    assert line["output_type"] == "display_data"
    assert_names(line["data"]["text/plain"], n_epochs, f"outputs {float(error):.4f}", "neurons")
    (line,) = two
    assert_names(line["data"]["text/plain"], "2 of 2 networks", "outputs", "neurons")
    assert {output["output_type"] for output in own} == {"stream"}  # what the caller prints, and no line
    assert set("".join(output["text"] for output in own).split()) == {"own"}


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ({"epochs": 7}, ("epoch", 7)),
        ({"seeds": 3}, ("network", 3)),
        ({"seeds": 3, "dynamics_weight": "cv"}, ("network", None)),
        ({"weight_penalty": "cv"}, ("network", None)),
    ],
)
def test_what_progress_counts(settings, counted):
    assert FitConfig(**settings).counted == counted


def test_outside_of_a_notebook_nothing_is_shown(result, capsys):
    nwbrnn.fit(result.recorded.drop_vars(["split", "sampled"]), hidden=5, epochs=1, sampled=2)
    assert capsys.readouterr() == ("", "")
