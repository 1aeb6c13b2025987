"""A stored fit that was changed: an error that names what, or a valid result; never anything else."""

import json
import math
import re
import shutil

import h5py
import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import NwbrnnError, ReadError
from nwbrnn.prediction import predict
from nwbrnn.report import write_fit_report
from tests.messages import assert_names

pytestmark = pytest.mark.slow

MODULE, ABOUT = "processing/nwbrnn", "scratch/nwbrnn_fit"


@pytest.fixture(scope="module")
def fitted(make_recording, tmp_path_factory):
    """Return a folder with a recording and a fit of it; only to be read."""
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copy(make_recording().path, folder / "session.nwb")
    ds = nwbrnn.read_nwb(folder / "session.nwb", bin_size=0.1)
    result = nwbrnn.fit(ds, epochs=4, hidden=8, sampled=3, min_rate=0, seeds=2, processes=1)
    nwbrnn.write_fit(result, folder / "session.nwb", folder / "fit.nwb")
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    """Return a folder of one's own with a recording and a fit of it."""
    for path in fitted.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def change_array(path, name, change):
    """Put another array in the place of one, with its attributes."""
    with h5py.File(path, "r+") as file:
        attributes, values = dict(file[name].attrs), change(file[name][()])
        del file[name]
        if values is not None:
            file.create_dataset(name, data=values).attrs.update(attributes)


def change_about(path, change):
    """Change what the fit says of itself, and return it."""

    def edit(text):
        about = json.loads(text)
        changed = change(about)
        return json.dumps(about if changed is None else changed)

    change_array(path, ABOUT, edit)


def put(*keys, value):
    """Return what sets a value deep in what a fit says of itself."""

    def change(about):
        for key in keys[:-1]:
            about = about[key]
        about[keys[-1]] = value

    return change


# ------------------------------------------------------------------ what is named

ARRAYS = {
    "NaN": ("hidden_units/recurrent_weights", lambda v: v * np.nan),
    "infinity": ("hidden_units/bias", lambda v: v + np.inf),
    "huge": ("hidden_units/output_weights", lambda v: v.astype(float) + 1e200),
    "text": ("hidden_units/bias", lambda v: np.full(v.shape, b"x")),
    "whole numbers": ("hidden_units/bias", lambda v: v.astype(int)),
    "fewer columns": ("hidden_units/recurrent_weights", lambda v: v[:, :-1]),
    "more columns": ("hidden_units/recurrent_weights", lambda v: np.concatenate([v, v], axis=1)),
    "fewer inputs": ("hidden_units/input_weights", lambda v: v[:, :-1]),
    "fewer outputs": ("hidden_units/output_weights", lambda v: v[:, :-1]),
    "one column": ("hidden_units/recurrent_weights", lambda v: v[:, 0]),
    "states by condition": ("hidden_units/initial_state", lambda v: np.stack([v, v], axis=1)),
    "readout of another width": ("recorded_units/readout", lambda v: v[:, :-1]),
    "another network": ("runs/recurrent_weights", lambda v: v[:, :-1]),
    "scale of rates 0": ("recorded_units/rate_scale", lambda v: v * 0),
    "no test trials": ("trials/split", lambda v: np.array([b"train"] * len(v))),
    "no training trials": ("trials/split", lambda v: np.array([b"test"] * len(v))),
    "a trial twice": ("trials/row", lambda v: v * 0),
    "times elsewhere": ("trials/align_time", lambda v: v + 1e6),
    "a seed that was not asked for": ("runs/seed", lambda v: v + 900),
    "a seed twice": ("runs/seed", lambda v: v * 0),
    "an end that is none": ("runs/ended", lambda v: np.array([b"x"] * len(v))),
}
OBJECTS = {
    "no test trials": "split",
    "no training trials": "split",
    "a trial twice": "trials/row",
    "times elsewhere": "",
    "a seed that was not asked for": "seed",
    "another network": "recurrent_weights",
    "readout of another width": "rate_readout",
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_changed_array_is_refused_by_name(kind, folder):
    name, change = ARRAYS[kind]
    change_array(folder / "fit.nwb", f"{MODULE}/{name}", change)
    with pytest.raises(ReadError) as refused:
        nwbrnn.read_fit(folder / "fit.nwb")
    assert str(refused.value).startswith(f"{folder / 'fit.nwb'}: ")
    assert OBJECTS.get(kind, name.rpartition("/")[2]) in str(refused.value)
    assert "expected" in str(refused.value)


WORDS = {
    "condition without states": (put("config", "initial_state", value="condition"), "initial_state"),
    "time constants that are not there": (put("config", "learn_tau", value=True), "tau"),
    "other hidden units": (put("config", "hidden", value=20000), "hidden"),
    "more seeds than can be": (put("config", "seeds", value=100_000), "seeds"),
    "a seed beyond 64 bits": (put("config", "seed", value=2**70), "seed"),
    "epochs that were not run": (put("config", "epochs", value=10**9), "epochs"),
    "a weight to be chosen": (put("config", "dynamics_weight", value="cv"), "dynamics_weight"),
    "an unknown setting": (put("config", "evil", value=1), "evil"),
    "no settings": (put("config", value=3), "config"),
    "a list of versions": (put("versions", value=[1]), "versions"),
    "a version as number": (put("versions", "torch", value=1), "versions.torch"),
    "a layout as text": (put("layout_version", value="3"), "layout_version"),
    "no layout": (lambda about: about.pop("layout_version") and None, "layout_version"),
    "a list": (lambda about: [about], "scratch/nwbrnn_fit"),
    "choices that are none": (put("dataset", "attrs", "choices", value="x"), "choices"),
    "choices of numbers": (put("dataset", "attrs", "choices", value="[1]"), "choices"),
    "reading with an unknown setting": (put("dataset", "attrs", "read_config", value='{"evil": 1}'), "evil"),
    "reading as a list": (put("dataset", "attrs", "read_config", value="[]"), "read_config"),
    "objects as a list": (put("dataset", "attrs", "source_objects", value="[1]"), "source_objects"),
    "a lag as text": (put("dataset", "attrs", "neural_lag", value="x"), "neural_lag"),
    "texts of 400 MB": (put("dataset", "coords", "output", "dtype", value="<U100000000"), "output"),
    "values of any kind": (put("dataset", "coords", "output", "dtype", value="V8"), "output"),
    "no such type": (put("dataset", "coords", "output", "dtype", value=1), "coords.output.dtype"),
    "coordinates as a list": (put("dataset", "coords", value=[]), "coords"),
    "a unit as a list": (put("dataset", "variables", "outputs", "attrs", "units", value=[1]), "outputs"),
}


@pytest.mark.parametrize("kind", WORDS)
def test_changed_description_is_refused_by_name(kind, folder, run_cli):
    change, word = WORDS[kind]
    change_about(folder / "fit.nwb", change)
    finished = run_cli("evaluate", folder / "fit.nwb")
    assert finished.code == 2
    assert len(finished.err.strip().splitlines()) == 1
    assert finished.err.startswith(f"Error: {folder / 'fit.nwb'}: ")
    assert word in finished.err
    assert "Pydantic" not in finished.err
    assert len(finished.err) < 2000


def test_seeds_that_were_never_fitted_are_not_repeated(folder, run_cli):
    """After an interrupt a fit of many seeds has fewer networks; a stored number must not begin others."""
    change_about(folder / "fit.nwb", put("config", "seeds", value=1000))
    finished = run_cli("refit", folder / "fit.nwb", "--json", folder / "x.json")
    assert finished.code == 0
    assert json.loads((folder / "x.json").read_text())["same_weights"]


# ------------------------------------------------------------------ what evaluate compares


def zero_readout(rows):
    """Set the readout to 0 of some unsampled neurons; that of sampled ones is their own hidden unit."""

    def change(file):
        values = file["recorded_units/readout"][...]
        values[np.flatnonzero(~file["recorded_units/sampled"][:].astype(bool))[rows]] = 0
        file["recorded_units/readout"][...] = values

    return change


PREDICTIONS = {
    "readout of unsampled neurons": zero_readout(slice(None)),
    "readout of one": zero_readout(slice(1)),
    "offsets": lambda file: file["recorded_units/readout_offset"].__setitem__(slice(None), 0),
    "output weights": lambda file: file["hidden_units/output_weights"].__setitem__(slice(None), 0),
    "recurrence": lambda file: file["hidden_units/recurrent_weights"].__setitem__(slice(None), 0),
    "stored rates": lambda file: file["predicted_rates/data"].__setitem__(slice(None), 1),
}


@pytest.mark.parametrize("change", PREDICTIONS.values(), ids=PREDICTIONS)
def test_weights_that_do_not_give_the_stored_predictions_are_refused(change, folder, run_cli):
    assert run_cli("evaluate", folder / "fit.nwb").code == 0
    with h5py.File(folder / "fit.nwb", "r+") as file:
        change(file[MODULE])
    finished = run_cli("evaluate", folder / "fit.nwb")
    assert finished.code == 2
    assert_names(finished.err, folder / "fit.nwb")
    assert re.search(r"\b(outputs|rates|hidden)\b", finished.err)


# ------------------------------------------------------------------ everything, at random

TAMPERS = {
    "missing": lambda v: None,
    "a scalar": lambda v: np.ravel(v)[0],
    "empty": lambda v: v[:0],
    "shorter": lambda v: v[:-1],
    "longer": lambda v: np.concatenate([v, v]),
    "narrower": lambda v: v[..., :-1] if v.ndim > 1 else np.stack([v, v], axis=-1),
    "flat": lambda v: v.reshape(-1)[: len(v)] if v.dtype.kind in "iuf" else v[::-1],
    "text": lambda v: np.full(v.shape, b"x"),
    "whole numbers": lambda v: np.full(v.shape, 7),
    "negative": lambda v: np.full(v.shape, -1),
    "truths": lambda v: np.full(v.shape, True),
    "NaN": lambda v: np.full(v.shape, np.nan),
    "infinity": lambda v: np.full(v.shape, np.inf),
    "huge": lambda v: np.full(v.shape, 1e300),
    "zeros": lambda v: np.zeros(v.shape),
    "complex": lambda v: np.full(v.shape, 1j),
}
VALUES = [None, True, -1, 0, 2**70, 1e300, math.nan, math.inf, "", "x", "{}", "[]", [], [1], {}, {"x": 1}]


def list_arrays(path):
    names = []
    with h5py.File(path) as file:
        file[MODULE].visititems(
            lambda name, item: names.append(f"{MODULE}/{name}") if isinstance(item, h5py.Dataset) else None
        )
        names = [name for name in names if file[name].ndim and file[name].dtype.kind in "iufbOS"]
        return [name for name in names if h5py.check_ref_dtype(file[name].dtype) is None]


def list_places(about, place=()):
    """Return the place of everything in what a fit says of itself."""
    pairs = about.items() if isinstance(about, dict) else enumerate(about) if isinstance(about, list) else ()
    return [p for key, value in pairs for p in ((*place, key), *list_places(value, (*place, key)))]


def tamper(path, rng):
    """Change one thing; return what."""
    if rng.random() < 0.6:
        name, kind = rng.choice(list_arrays(path)), rng.choice(list(TAMPERS))
        with h5py.File(path) as file:
            if not len(file[name]):
                return f"{name} is empty"
        change_array(path, name, lambda values: TAMPERS[kind](np.asarray(values)))
        return f"{name}: {kind}"
    with h5py.File(path) as file:
        places = list_places(json.loads(file[ABOUT][()]))
    place, value = places[rng.integers(len(places))], VALUES[rng.integers(len(VALUES))]
    change_about(path, put(*place, value=value))
    return f"{place} = {value!r}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_any_change_ends_in_an_error_of_ours_or_a_valid_result(part, fitted, campaign, tmp_path):
    changes = campaign("stored fits tampered with", few=5, many=125)  # of each part
    rng = np.random.default_rng([changes.rng.getrandbits(32), part])
    shutil.copy(fitted / "session.nwb", tmp_path)
    path = tmp_path / "fit.nwb"
    n_refused = 0
    for _ in range(changes.size):
        shutil.copy(fitted / "fit.nwb", path)
        what = tamper(path, rng)
        error = use(path)
        n_refused += error is not None
        changes.count("used" if error is None else "refused")
        assert isinstance(error, NwbrnnError | None), f"{what}: {type(error).__name__}: {error}"
        assert len(str(error)) < 5000, what
    assert n_refused > changes.size // 4


def use(path):
    """Do everything with a fit that the commands do; return what went wrong."""
    out = path.with_name("out.nwb")
    try:
        stored = nwbrnn.read_fit(path)
        predicted = predict(stored.recorded, stored.weights, stored.config)
        nwbrnn.evaluate(stored.recorded, predicted)
        scores = nwbrnn.assess(stored.recorded, stored.predicted)
        write_fit_report(stored, path.with_name("page.html"), assessment=scores, overwrite=True)
        nwbrnn.write_fit(stored, path.with_name("session.nwb"), out, overwrite=True)
        nwbrnn.read_fit(out)
    except Exception as error:
        return error
    return None
