"""Uses what ``tests/unit/test_contributing.py`` added to a copy of the package; prints what came of it."""

import json
import sys
import warnings
from pathlib import Path

import layouts
from typer.testing import CliRunner

import nwbrnn
from nwbrnn.cli.main import app
from nwbrnn.errors import MissingDataError
from nwbrnn.evaluation import get_spec
from nwbrnn.readers.doctor import diagnose
from nwbrnn.report import write_fit_report
from nwbrnn.storage import open_nwb

FIT = {"method": "gradient", "epochs": 2, "hidden": 6, "sampled": 2, "min_rate": 0}


def use_loss_and_variable(session, folder):
    ds = nwbrnn.read_nwb(session, bin_size=0.1)
    plain, weighted = (nwbrnn.fit(ds, absolute_weight=weight, **FIT).history for weight in (0.0, 0.5))
    result = nwbrnn.fit(ds, **FIT)
    path = nwbrnn.write_fit(result, session, folder / "fit.nwb")
    stored = nwbrnn.read_fit(path)
    with open_nwb(path) as nwbfile:
        series = nwbfile.processing["nwbrnn"]["recorded_load"].description
    load, mask = ds["load"].values, ds["mask"].values
    return {
        "total": weighted["train_total"][0] - plain["train_total"][0],
        "term": plain["train_absolute"][0],
        "term in the file": stored.history["train_absolute"] == result.history["train_absolute"],
        "load": bool((load[mask] == 2 * ds["inputs"].values[mask]).all()),
        "load in the file": stored.recorded["load"].identical(result.recorded["load"]),
        "series": series,
    }


def use_score(session, folder):
    result = nwbrnn.fit(nwbrnn.read_nwb(session, bin_size=0.1), **FIT)
    scores = nwbrnn.assess(result.recorded, result.predicted, n_resamples=2)
    (found,) = [score for score in scores if score.name == "gap"]
    write_fit_report(result, folder / "page.html", assessment=scores)
    page = (folder / "page.html").read_text("utf-8")
    gap = get_spec("gap, later than trained")
    return {
        "score": [found.value, found.noise_ceiling],
        "page": gap.description in page,
        "better": gap.better,
    }


def use_rule(session):
    return [(f.object, f.problem, f.biases) for f in diagnose(session) if f.rule == "trials_counted"]


def use_command(session):
    runs = [CliRunner().invoke(app, arguments) for arguments in (["count", str(session)], ["--help"])]
    own = CliRunner().invoke(app, ["count", "--help"])
    return {"codes": [run.exit_code for run in (*runs, own)], "said": [run.output for run in (*runs, own)]}


def read_layout(folder):
    task = layouts.create_task()
    nwbfile = layouts.create_file()
    layouts.add_units(nwbfile, task.spikes)
    layouts.add_trials(nwbfile, task, layouts.create_wrist_columns(task))
    values = layouts.create_values(task.rng, layouts.np.arange(3400) / 100, 2)
    nwbfile.add_acquisition(layouts.create_series("squeeze", values, rate=100.0, unit="N"))
    layouts.write(nwbfile, folder / "layout.nwb")
    try:
        return nwbrnn.read_nwb(folder / "layout.nwb", bin_size=0.1)["outputs"].attrs["units"]
    except MissingDataError as error:
        return type(error).__name__


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    session, folder = map(Path, sys.argv[1:])
    found = {"layout": read_layout(folder)}
    if "absolute_weight" in nwbrnn.FitConfig.model_fields:
        found |= use_loss_and_variable(session, folder)
        found |= use_score(session, folder)
        found |= {"rule": use_rule(session), "command": use_command(session)}
    print(json.dumps(found))
