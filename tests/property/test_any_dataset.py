"""Any Dataset that the contract allows goes into an NWB file and comes back identical."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.evaluation import Score, Scores
from nwbrnn.result import FitResult, Run
from nwbrnn.schema import SPLITS
from tests.drawing import PATIENT

pytestmark = pytest.mark.slow

HIDDEN = 3

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])
COUNTS = st.sampled_from([np.int8, np.int32, np.uint16, np.int64, np.float32])
finite = st.floats(-1e3, 1e3)
# of NumPy's own: zeros at the end of a text are not kept by it
texts = st.text(max_size=6).map(lambda text: text.rstrip("\0"))
names = st.one_of(
    st.sampled_from(
        ["start_time", "row", "output_r2", "a/b", "a:b", "é", "tags", "id", "columns", "r2", "readout_0"]
    ),
    st.text(min_size=1, max_size=5),
).filter(lambda name: name not in TAKEN)
TAKEN = {
    "trial", "time", "unit", "output", "input", "condition", "align_time", "split", "n_trials", "sampled",
    "output_units", "output_scale", "rate_scale", "rate_offset", "outputs", "inputs", "mask", "rates",
    "spike_counts", "hidden", "connectivity", "readout", "hidden_unit", "presynaptic", "instant",
}  # fmt: skip
attributes = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**60), 2**60), st.floats(allow_nan=False)), max_size=2
)


def draw_label(draw, n):
    """Return values of any type that a label can have."""
    kind = draw(st.sampled_from(["text", "object", "variable", "float", "nan", "int", "bool"]))
    if kind in ("text", "object", "variable"):
        dtype = {"text": None, "object": object, "variable": np.dtypes.StringDType()}[kind]
        return np.array(draw(st.lists(texts, min_size=n, max_size=n)), dtype=dtype)
    if kind == "nan":
        return np.full(n, np.nan)
    values = draw(st.lists(st.integers(-100, 100), min_size=n, max_size=n))
    return np.array(values).astype({"float": np.float64, "int": np.int16, "bool": bool}[kind])


def draw_names(draw, n):
    return np.array(draw(st.lists(texts, min_size=n, max_size=n, unique=True)))


@st.composite
def datasets(draw):
    """Return a Dataset as ``prepare`` makes them, with everything that may be in one."""
    trial, time, unit, output, inputs = (draw(st.integers(low, 3)) for low in (2, 2, 1, 1, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((trial, time)) < draw(st.sampled_from([0.4, 0.8, 1.0]))
    mask[np.arange(trial), rng.integers(0, time, trial)] = True
    bin_size = draw(st.sampled_from([0.001, 0.01, 0.05, 1 / 30]))

    def fill(n, dtype):
        return (100 * rng.random((trial, time, n))).astype(dtype)

    variables = {"outputs": fill(output, draw(FLOATS)), "inputs": fill(inputs, draw(FLOATS)), "mask": mask}
    variables["rates"] = fill(unit, draw(FLOATS))
    if draw(st.booleans()):
        variables["spike_counts"] = fill(unit, draw(COUNTS))
    if draw(st.booleans()):  # some units and outputs were not observed everywhere
        seen = rng.random((trial, time, unit)) < 0.7
        variables["outputs"][rng.random((trial, time, output)) < 0.3] = np.nan
        variables["rates"][~seen] = np.nan
        if "spike_counts" in variables:
            counts = variables["spike_counts"].astype(draw(FLOATS))
            variables["spike_counts"] = np.where(seen, counts, counts.dtype.type(np.nan))
    if draw(st.booleans()):
        variables["connectivity"] = rng.random((unit, 4))
        variables["readout"] = rng.random((output, unit)).astype(np.float32)
    coords = {
        "trial": rng.permutation(50)[:trial].astype(draw(st.sampled_from([np.int64, np.uint8]))),
        "unit": rng.permutation(50)[:unit],
        "time": draw(finite) + np.arange(time) * bin_size,
        "output": draw_names(draw, output),
        "input": draw_names(draw, inputs),
        "condition": np.array(draw(st.lists(texts, min_size=trial, max_size=trial)), dtype=object),
        "align_time": rng.uniform(0, draw(st.sampled_from([0.05, 100.0])), trial),  # may overlap
        "split": np.array(["train", "test", *(SPLITS[i] for i in rng.integers(0, 4, trial - 2))]),
        "output_scale": rng.uniform(0.01, 100, output),
        "sampled": rng.random(unit) < 0.5,
        "rate_scale": rng.uniform(5, 50, unit),
        "rate_offset": rng.uniform(0, 50, unit),
        "instant": np.datetime64("2020-01-01T00:00", "ns"),
    }
    if draw(st.booleans()):
        coords["output_units"] = np.array(["mV", "N", "m/s"][:output])
    for name in draw(st.lists(names, max_size=4, unique=True)):
        dim, n = draw(st.sampled_from([("trial", trial), ("unit", unit), ("time", time), ("output", output)]))
        coords[name] = (dim, draw_label(draw, n), draw(attributes))
    coords["instant"] = ((), coords["instant"])
    attrs = draw(attributes) | draw(st.sampled_from([{}, {"neural_lag": 2 * bin_size}]))
    ds = nwbrnn.create_dataset(variables, coords, bin_size=bin_size, attrs=attrs, units={"outputs": "1"})
    ds["rates"].attrs |= draw(attributes)
    return ds


def invent_fit(recorded):
    """Return a fit with weights and predictions of the right shape."""
    rng = np.random.default_rng(0)
    n = recorded.sizes
    sizes = {
        "recurrent_weights": (HIDDEN, HIDDEN), "input_weights": (HIDDEN, n["input"]), "bias": (HIDDEN,),
        "initial_state": (HIDDEN,), "output_weights": (n["output"], HIDDEN), "output_bias": (n["output"],),
        "rate_readout": (n["unit"], HIDDEN), "rate_readout_offset": (n["unit"],),
    }  # fmt: skip
    weights = {name: rng.random(shape).astype(np.float32) for name, shape in sizes.items()}
    shape = n["trial"], n["time"]
    variables = {
        "outputs": rng.random((*shape, n["output"])).astype(np.float32),
        "rates": rng.random((*shape, n["unit"])).astype(np.float32),
        "hidden": rng.random((*shape, HIDDEN)).astype(np.float32),
        "inputs": recorded["inputs"].values,
        "mask": recorded["mask"].values,
    }
    coords = {str(name): coord for name, coord in recorded.coords.items()}
    units = {name: recorded[name].attrs["units"] for name in ("outputs", "inputs")}
    predicted = nwbrnn.create_dataset(variables, coords, bin_size=recorded.attrs["bin_size"], units=units)
    scores = Scores(
        summary=tuple(
            Score(f"{name} R2", "condition averages", 0.5, 0.9)
            for name in ("output", "sampled neurons", "unsampled neurons")
        ),
        output_r2=rng.random(n["output"]), output_known_average=np.full(n["output"], np.nan),
        unit_r2=rng.random(n["unit"]), unit_known_average=rng.random(n["unit"]),
    )  # fmt: skip
    losses = {"train_total": [1.0, 0.5], "train_output": [0.9, 0.4]}
    run = Run(0, weights, losses, 0.5, "finished", 1.0, scores)
    config = FitConfig(hidden=HIDDEN, epochs=2, sampled=int(recorded["sampled"].sum()))
    return FitResult(recorded, predicted, (run,), config)


def check_round_trip(recorded, recording, path):
    result = invent_fit(recorded)
    nwbrnn.write_fit(result, recording.path, path, overwrite=True)
    again = nwbrnn.read_fit(path)
    for first, stored in ((recorded, again.recorded), (result.predicted, again.predicted)):
        second = stored
        if first["outputs"].dtype == np.float64:  # through their recorded unit: to the last digit
            np.testing.assert_allclose(stored["outputs"], first["outputs"], rtol=4e-16)
            second = stored.assign(outputs=first["outputs"])
        xr.testing.assert_identical(first, second)
        assert [v.dtype for v in first.variables.values()] == [second[n].dtype for n in first.variables]
    for name, values in result.weights.items():
        np.testing.assert_array_equal(again.weights[name], values)


def test_dataset_comes_back_identical(campaign, recording, tmp_path):
    """The same Datasets each time; another ``--campaign-seed`` makes others. Failures are shrunk."""
    round_trips = campaign("random Datasets exported", few=5, many=200)

    @seed(round_trips.rng.getrandbits(32))
    @settings(max_examples=round_trips.size, database=None, **PATIENT)
    @given(recorded=datasets())
    def check(recorded):
        check_round_trip(recorded, recording, tmp_path / "fit.nwb")
        round_trips.count("identical")

    check()
