"""Virtual targets: what a ridge regression says of directions that nobody reached to."""

import numpy as np
import pytest
import xarray as xr

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.job import fit
from nwbrnn.preprocessing import average_conditions, prepare
from nwbrnn.training.virtual import add_virtual_targets
from tests.messages import names
from tests.unit.test_baselines import ANGLES, N_CONDITIONS, create_recorded


def average(**options):
    recorded = create_recorded(noise=0.0, **options)
    return average_conditions(recorded.isel(trial=recorded["split"].values != "test"))


def test_courses_of_two_harmonics_are_continued_but_for_the_penalty():
    whole, known = average(), average(held_out=(3,))
    found = add_virtual_targets(known, N_CONDITIONS).isel(trial=slice(N_CONDITIONS - 1, None))
    assert found["condition"].values[3] == "virtual 135"
    for name in ("outputs", "rates"):
        expected = whole[name].values
        assert np.corrcoef(found[name].values.ravel(), expected.ravel())[0, 1] > 0.99
        np.testing.assert_allclose(found[name].values, expected, atol=0.1 * np.ptp(expected))
    np.testing.assert_allclose(found["inputs"].values, whole["inputs"].values, atol=1e-6)


def test_directions_are_evenly_around_the_circle_from_the_first():
    inputs = add_virtual_targets(average(), 5)["inputs"].values[N_CONDITIONS:, -1]
    np.testing.assert_allclose(
        np.unwrap(np.arctan2(inputs[:, 1], inputs[:, 0])), ANGLES[0] + 2 * np.pi * np.arange(5) / 5, atol=1e-6
    )
    np.testing.assert_allclose(inputs[:, 2], 1)  # the go cue


def test_twice_a_direction_is_told_where_the_others_tell_it():
    def tell_twice(ds):
        angle = np.arctan2(ds["inputs"].values[..., 1], ds["inputs"].values[..., 0])
        size = 0.4 * np.hypot(*(ds["inputs"].values[..., i] for i in (0, 1)))
        second = np.stack([size * np.cos(2 * angle), size * np.sin(2 * angle)], axis=2)
        more = ds["inputs"].isel(input=[0, 1]).copy(data=second)
        more = more.assign_coords(input=["direction_cos2", "direction_sin2"])
        return ds.drop_vars(["inputs", "input"]).assign(inputs=xr.concat([ds["inputs"], more], "input"))

    known, expected = (tell_twice(average(held_out=held)) for held in ((3,), ()))
    found = add_virtual_targets(known, N_CONDITIONS).isel(trial=slice(N_CONDITIONS - 1, None))
    np.testing.assert_allclose(found["inputs"].values, expected["inputs"].values, atol=1e-6)


def test_outputs_that_are_not_shown_have_no_say():
    known = average()
    hidden = known.copy(deep=True)
    hidden["outputs"].values[2] = 1e3
    split = np.where(np.arange(N_CONDITIONS) == 2, "dynamics_only", "train")
    first, second = (
        add_virtual_targets(ds.assign_coords(split=("trial", split)), 6)["outputs"].values[N_CONDITIONS:]
        for ds in (known, hidden)
    )
    np.testing.assert_array_equal(first, second)


def test_directions_without_outputs_do_not_count():
    known = average()
    split = np.where(np.arange(N_CONDITIONS) < 2, "train", "dynamics_only")
    with pytest.raises(ConfigError, match=names("virtual_targets", 3, 2)):
        add_virtual_targets(known.assign_coords(split=("trial", split)), 4)


def test_without_directions_there_are_no_virtual_targets():
    known = average()
    other = known.assign_coords(input=("input", ["a", "b", "c"]))
    with pytest.raises(ConfigError, match=names("virtual_targets", "a, b, c")):
        add_virtual_targets(other, 4)
    with pytest.raises(ConfigError, match=names("virtual_targets", 3, 2)):
        add_virtual_targets(known.isel(trial=[0, 1]), 4)
    with pytest.raises(ValueError, match=names("virtual_targets", "average")):
        FitConfig(virtual_targets=4, average=False)


@pytest.mark.slow
def test_a_network_learns_of_directions_it_was_not_shown():
    ds = create_recorded(noise=0.1).drop_vars(["split", "sampled", "rate_scale", "rate_offset"])
    settings = {"hidden": 60, "epochs": 120, "held_out_conditions": ("3",), "min_rate": 0, "sampled": 4}
    with_targets, without = (
        fit(ds, virtual_targets=n, **settings).scores.get("output R2").value for n in (N_CONDITIONS, 0)
    )
    assert with_targets > without + 0.05
    assert "virtual 0" not in prepare(ds, FitConfig(virtual_targets=8, **settings))["condition"].values


def test_what_no_trial_has_stays_as_it_is():
    """As the connectivity of a simulated circuit."""
    known = average()
    weights = np.eye(known.sizes["unit"])
    found = add_virtual_targets(known.assign(connectivity=(("unit", "presynaptic"), weights)), 4)
    assert found["connectivity"].dims == ("unit", "presynaptic")
    np.testing.assert_array_equal(found["connectivity"], weights)
