import numpy as np
import pytest

from nwbrnn.dataset import create_dataset, find_observed, get_unit_ids
from nwbrnn.errors import SchemaError
from nwbrnn.schema import find_problems, validate
from tests.messages import names


def create_valid(**variables):
    rng = np.random.default_rng(0)
    arrays = {
        "outputs": rng.standard_normal((4, 6, 2)),
        "inputs": rng.standard_normal((4, 6, 1)),
        "rates": rng.uniform(0, 50, (4, 6, 3)),
        "spike_counts": rng.poisson(1, (4, 6, 3)),
    }
    return create_dataset(arrays | variables, {}, bin_size=0.02)


def set_value(ds, name, index, value):
    ds = ds.copy(deep=True)
    ds[name].values[index] = value
    return ds


def strip_units(ds, name):
    ds = ds.copy(deep=True)
    del ds[name].attrs["units"]
    return ds


FAULTS = {
    "missing variable": (lambda ds: ds.drop_vars("outputs"), ("'outputs'", "missing")),
    "missing coordinate": (lambda ds: ds.drop_vars("condition"), ("'condition'", "missing")),
    "no neurons": (lambda ds: ds.drop_vars(["rates", "spike_counts"]), ("'rates'", "'spike_counts'")),
    "dimensions": (
        lambda ds: ds.assign(inputs=ds["inputs"].transpose("time", "trial", "input")),
        ("'inputs'", "('trial', 'time', 'input')", "('time', 'trial', 'input')"),
    ),
    "type": (
        lambda ds: ds.assign(outputs=ds["outputs"].astype(int)),
        ("'outputs'", "'f'", "int64"),
    ),
    "no units": (lambda ds: strip_units(ds, "rates"), ("'rates'", "attrs['units']")),
    "wrong units": (
        lambda ds: ds.assign_coords(time=ds["time"].assign_attrs(units="ms")),
        ("'time'", "'s'", "'ms'"),
    ),
    "NaN inside the mask": (
        lambda ds: set_value(ds, "inputs", (1, 2), np.nan),
        ("'inputs'", 1, "mask", "finite"),
    ),
    "infinite output": (
        lambda ds: set_value(ds, "outputs", (1, 2), -np.inf),
        ("'outputs'", 2, "mask", "infinite"),
    ),
    "a rate without its count": (
        lambda ds: set_value(ds, "rates", (1, 2), np.nan),
        ("'rates'", "'spike_counts'", "NaN", 3),
    ),
    "infinite rate": (
        lambda ds: set_value(ds, "rates", (0, 0, 0), np.inf),
        ("'rates'", 1, "mask", "infinite"),
    ),
    "negative count": (
        lambda ds: set_value(ds, "spike_counts", (0, 0, 0), -1),
        ("'spike_counts'", "-1"),
    ),
    "empty trial": (
        lambda ds: set_value(ds, "mask", 2, value=False),
        ("'mask'", "[2]"),
    ),
    "irregular time": (
        lambda ds: ds.assign_coords(
            time=("time", ds["time"].values * np.array([1, 1, 1, 1, 1, 1.1]), {"units": "s"})
        ),
        ("'time'", "0.02 s", "got 6"),
    ),
    "one bin": (lambda ds: ds.isel(time=[0]), ("'time'", "two", "got 1")),
    "no bin size": (lambda ds: ds.assign_attrs(bin_size=None), ("attrs['bin_size']", "None")),
    "repeated units": (lambda ds: ds.isel(unit=[0, 0, 1]), ("'unit'", "unique", "[0]")),
    "repeated trials": (lambda ds: ds.isel(trial=[0, 1, 1]), ("'trial'", "unique", "[1]")),
    "no units left": (lambda ds: ds.isel(unit=[]), ("'unit'", "empty")),
    "unknown split": (
        lambda ds: ds.assign_coords(split=("trial", ["train", "test", "exam", "train"])),
        ("'split'", "'train', 'dynamics_only', 'validation', 'test'", "['exam']"),
    ),
}


def test_validate_returns_a_valid_dataset():
    ds = create_valid()
    assert validate(ds) is ds
    assert find_problems(ds) == []


def test_nan_outside_the_mask_is_allowed():
    mask = np.ones((4, 6), dtype=bool)
    mask[0, 0] = False
    ds = set_value(create_valid(mask=mask), "outputs", (0, 0), np.nan)
    assert find_problems(ds) == []


def test_a_unit_and_an_output_may_be_observed_in_part_of_the_bins():
    ds = create_valid()
    outputs, rates, counts = (ds[name].values.astype(float) for name in ("outputs", "rates", "spike_counts"))
    outputs[2, :, 1] = np.nan
    for values in (rates, counts):
        values[1:3, :, 0] = np.nan
        values[0, 4:, 2] = np.nan
    mask = np.ones((4, 6), dtype=bool)
    mask[1, :3] = mask[3, 0] = False
    ds = create_valid(outputs=outputs, rates=rates, spike_counts=counts, mask=mask)
    assert ds["spike_counts"].dtype.kind == "f"
    assert find_observed(ds, "outputs").sum(axis=(0, 1)).tolist() == [20, 14]
    for name in ("rates", "spike_counts"):
        assert find_observed(ds, name).sum(axis=(0, 1)).tolist() == [11, 20, 18]
        assert np.array_equal(find_observed(ds, name), np.isfinite(ds[name].values))


def test_a_prediction_lacks_nothing():
    ds = create_valid().drop_vars("spike_counts")
    hidden = (("trial", "time", "hidden_unit"), np.zeros((4, 6, 5)), {"units": "1"})
    predicted = set_value(ds.assign(hidden=hidden), "rates", (0, 1, 2), np.nan)
    assert find_problems(predicted.drop_vars("hidden")) == []
    with pytest.raises(SchemaError, match=names("'rates'", 1, "mask", "not finite")):
        validate(predicted)


def test_whole_numbers_stay_where_every_unit_was_observed():
    mask = np.ones((4, 6), dtype=bool)
    mask[0, 0] = False
    ds = create_valid(mask=mask)
    assert ds["spike_counts"].dtype.kind == "i"
    assert not ds["spike_counts"].values[0, 0].any()
    for name in ("rates", "spike_counts"):
        np.testing.assert_array_equal(find_observed(ds, name), mask[..., np.newaxis])


def test_a_unit_may_be_observed_in_no_bin():
    rates = create_valid()["rates"].values.copy()
    rates[..., 1] = np.nan
    arrays = {"outputs": np.zeros((4, 6, 2)), "inputs": np.zeros((4, 6, 1)), "rates": rates}
    assert find_observed(create_dataset(arrays, {}, bin_size=0.02), "rates").any(axis=(0, 1)).tolist() == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("break_dataset", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_named(break_dataset, message):
    with pytest.raises(SchemaError, match=names(*message)) as caught:
        validate(break_dataset(create_valid()))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("wrong", [3, np.nan])
def test_labels_among_objects_are_texts(wrong):
    labels = np.array(["a", "b", "a", "b"], dtype=object)
    assert find_problems(create_valid().assign_coords(condition=("trial", labels))) == []
    labels[2] = wrong
    with pytest.raises(SchemaError, match=names("condition", wrong)):
        validate(create_valid().assign_coords(condition=("trial", labels)))


def test_all_faults_are_reported_at_once():
    ds = strip_units(create_valid(), "rates").drop_vars(["outputs", "condition"])
    ds = ds.assign(inputs=ds["inputs"].astype(int))
    with pytest.raises(SchemaError, match="Dataset") as caught:
        validate(ds)
    problems = caught.value.problems
    named = [problem.split("'")[1] for problem in problems]
    assert sorted(named) == ["condition", "inputs", "outputs", "rates"]
    assert all(problem in str(caught.value) for problem in problems)


def test_faults_of_values_are_reported_together():
    ds = set_value(set_value(create_valid(), "outputs", (0, 0, 0), np.inf), "spike_counts", (0, 0, 0), -1)
    problems = find_problems(ds.isel(unit=[0, 0, 1]))
    assert len(problems) == 3


def test_create_dataset_fills_in_defaults():
    ds = create_valid()
    assert ds["mask"].values.all()
    np.testing.assert_allclose(ds["time"], [0.01, 0.03, 0.05, 0.07, 0.09, 0.11])
    np.testing.assert_allclose(ds["align_time"], np.arange(4) * 0.12)
    assert ds["output"].values.tolist() == ["output_0", "output_1"]
    assert [ds[name].attrs["units"] for name in ("rates", "outputs", "spike_counts")] == ["Hz", "a.u.", "1"]


def test_create_dataset_keeps_given_coordinates():
    arrays = {"outputs": np.zeros((2, 3, 1)), "inputs": np.ones((2, 3, 1)), "rates": np.ones((2, 3, 1))}
    coords = {"time": np.array([-0.1, 0.0, 0.1]), "speed": ("trial", [1.0, 2.0])}
    ds = create_dataset(arrays, coords, bin_size=0.1, units={"outputs": "mV"}, attrs={"source": "x"})
    assert ds["outputs"].attrs["units"] == "mV"
    assert (ds.attrs["source"], ds.attrs["bin_size"]) == ("x", 0.1)
    np.testing.assert_array_equal(ds["speed"], [1, 2])
    np.testing.assert_allclose(ds["align_time"].values + ds["time"].values[0], [0.05, 0.35])


def test_units_are_called_by_their_ids_or_else_their_rows():
    ds = create_valid()
    assert get_unit_ids(ds).tolist() == ds["unit"].values.tolist()
    ids = np.arange(ds.sizes["unit"])[::-1] + 40
    assert get_unit_ids(ds.assign_coords(unit_id=("unit", ids))).tolist() == ids.tolist()


def test_create_dataset_refuses_unequal_lengths():
    with pytest.raises(ValueError, match=names("'time'", "'inputs'", 5, 6)):
        create_valid(inputs=np.zeros((4, 5, 1)))
