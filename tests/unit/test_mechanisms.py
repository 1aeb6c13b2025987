"""Circuits of four kinds, and what is measured of them and of their networks."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import nwbrnn
from nwbrnn.evaluation.fixed_points import Gain, create_rate_system
from nwbrnn.evaluation.specs import get_spec
from nwbrnn.mechanism import Teacher, follow_network, follow_teacher, measure_mechanism
from nwbrnn.mechanism.flow import Motion
from nwbrnn.models import NETWORKS
from nwbrnn.prediction import create_system
from nwbrnn.prediction.systems import create_gain
from nwbrnn.teacher import MECHANISMS, Circuit, Reaches, TeacherConfig, simulate_teacher
from tests.messages import names
from tests.unit.test_training import create_recording

SMALL = {"n_neurons": 60, "n_directions": 4, "n_trials": 3, "preparation": 0.2, "movement": 0.4}
SETTINGS = {"hidden": 30, "sampled": 10, "min_rate": 0, "method": "least_squares"}


@pytest.fixture(scope="module", params=list(MECHANISMS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def ds(kind):
    return simulate_teacher(TeacherConfig(teacher=kind, **SMALL))


@pytest.fixture(scope="module")
def result(ds):
    return nwbrnn.fit(ds, **SETTINGS)


# ------------------------------------------------------------------ circuits


def test_eigenvalues_are_those_of_the_mechanism():
    values = {kind: np.linalg.eigvals(one.build(60, 1)) for kind, one in MECHANISMS.items() if kind != "soc"}
    from nwbrnn.teacher import mechanisms as module

    largest = values["low_rank"][np.argsort(-np.abs(values["low_rank"]))]
    np.testing.assert_allclose(largest[:2].real, module.DECAY)
    np.testing.assert_allclose(np.abs(largest[:2].imag), module.ROTATION)
    np.testing.assert_allclose(np.abs(largest[2:]), 0, atol=1e-8)
    assert np.linalg.matrix_rank(MECHANISMS["low_rank"].build(60, 1)) == 2
    feedforward = MECHANISMS["feedforward"].build(60, 1)
    np.testing.assert_allclose(np.linalg.matrix_power(feedforward, module.N_STAGES), 0, atol=1e-9)
    assert np.linalg.norm(np.linalg.matrix_power(feedforward, module.N_STAGES - 1)) > 1
    ring = np.sort(np.linalg.eigvalsh(MECHANISMS["ring"].build(60, 1)))
    np.testing.assert_allclose(ring[-2:], module.BUMP)
    np.testing.assert_allclose(ring[:-2], 0, atol=1e-9)


def test_every_mechanism_makes_movements_that_depend_on_the_direction(kind, ds):
    assert ds.attrs["teacher"].startswith(f'{{"teacher":"{kind}"')
    averages = nwbrnn.preprocessing.average_conditions(ds)["outputs"].values
    assert averages.std(axis=0).max() > 0.3
    assert np.isfinite(ds["rates"].values).all()
    assert ("cell_type" in ds.coords) == (kind == "soc")
    same = simulate_teacher(TeacherConfig(teacher=kind, **SMALL))
    np.testing.assert_array_equal(same["rates"], ds["rates"])


def test_states_at_the_go_cue_are_those_that_were_asked_for(kind):
    config = TeacherConfig(teacher=kind, **SMALL)
    reaches = Reaches(config, Circuit(MECHANISMS[kind].build(60, 0)))
    from nwbrnn.teacher.reaching import compute_initial_states
    from nwbrnn.teacher.soc import gain

    wanted = gain(compute_initial_states(reaches.circuit, reaches.directions))
    bins = int(np.searchsorted(reaches.time, 0.0)) - 1
    found = reaches.run(reaches.drive)[:, bins]
    # the linear formula of the ramp is not exact, and the ramp is cut off
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9


def test_unknown_mechanisms_are_refused():
    with pytest.raises(ValueError, match=names("teacher", "low_rank", "ring")):
        TeacherConfig(teacher="chaos")


@pytest.mark.slow
def test_a_file_brings_its_circuit_along(kind, ds, tmp_path):
    nwbrnn.write_teacher(ds, tmp_path / "teacher.nwb")
    read = nwbrnn.read_nwb(tmp_path / "teacher.nwb")
    np.testing.assert_array_equal(read["connectivity"], ds["connectivity"])
    np.testing.assert_allclose(read["readout"], ds["readout"])
    assert read.attrs["teacher"] == ds.attrs["teacher"]
    some = nwbrnn.read_nwb(tmp_path / "teacher.nwb", channels=("muscle_3", "muscle_1"))
    rows = [ds["output"].values.tolist().index(name) for name in some["output"].values.tolist()]
    np.testing.assert_allclose(some["readout"], ds["readout"].values[rows])
    fitted = nwbrnn.fit(read, **SETTINGS)
    nwbrnn.write_fit(fitted, tmp_path / "teacher.nwb", tmp_path / "fit.nwb")
    again = nwbrnn.read_fit(tmp_path / "fit.nwb")
    teacher = Teacher.find(again.recorded)
    np.testing.assert_allclose(teacher.run(["0"]), Teacher.find(fitted.recorded).run(["0"]), atol=1e-4)


# ------------------------------------------------------------------ what is measured


def test_teachers_rest_where_theory_says(kind, result):
    found = follow_teacher(Teacher.find(result.recorded))
    measured = found.measure()
    if kind == "ring":
        assert measured["attracting points"] >= 3  # as many as conditions end in
        assert measured["leading growth rate"] == pytest.approx(0, abs=0.01)
        assert measured["departure from normality"] == pytest.approx(0, abs=1e-9)
    else:
        assert measured["attracting points"] >= 1
        expected = (np.linalg.eigvals(found.weights).real.max() - 1) / 0.2
        assert measured["leading growth rate"] == pytest.approx(expected, abs=0.2)
    if kind == "feedforward":
        assert measured["departure from normality"] == pytest.approx(1, abs=1e-3)
    if kind == "low_rank":
        assert measured["slow modes"] == 2


def test_networks_are_measured_beside_their_circuits(result):
    measured = measure_mechanism(result)
    own = [name for name in measured if f"{name}, circuit" in measured]
    assert len(own) == 5
    assert all(get_spec(name) for name in measured)
    assert measured["attracting points"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"network": "gru", "epochs": 2, "method": "auto"}, {"learn_tau": True}]
)
def test_fits_without_a_teacher_are_measured_alone(settings):
    result = nwbrnn.fit(
        create_recording(), **{"hidden": 20, "sampled": 4, "min_rate": 0, "epochs": 5} | settings
    )
    measured = measure_mechanism(result)
    assert len(measured) == 5
    assert np.isfinite(measured["Lyapunov exponent"])
    assert np.isnan(measured["departure from normality"]) == ("network" in settings)


# ------------------------------------------------------------------ the equations of a network


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nonlinearity": "softplus"},
        {"nonlinearity": "soc"},
        {"learn_tau": True},
        {"substeps": 1, "tau": 0.005},
        {"network": "gru"},
    ],
)
def test_the_system_is_the_network_itself(settings):
    config = nwbrnn.FitConfig(hidden=7, precision="float64", **settings)
    import torch

    model = NETWORKS[config.network]((2, 7, 3), config, bin_size=0.01)
    with torch.no_grad():
        model.bias.normal_()
    inputs, state = np.array([0.5, -1.0]), np.random.default_rng(0).uniform(-0.8, 0.8, 7)
    system = create_system(model.to_weights(), config, inputs, bin_size=0.01)
    with torch.no_grad():
        given = torch.from_numpy(inputs)[None, None]
        rates = model.run(given, torch.from_numpy(state)[None], None)[0, 0]
    after = state + system.step * system.change(state)
    expected = rates.numpy()
    found = after if config.network == "gru" else create_gain(config.nonlinearity).rate(after)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    h = 1e-6
    columns = [(system.change(state + h * e) - system.change(state - h * e)) / (2 * h) for e in np.eye(7)]
    np.testing.assert_allclose(system.jacobian(state), np.stack(columns, axis=1), atol=1e-6)


def test_modes_of_a_linear_network_are_its_eigenvalues_wherever_it_is():
    weights = np.array([[0.5, -2.0], [2.0, 0.5]])
    linear = Gain(lambda x: x, np.ones_like)
    motion = Motion(
        states=np.random.default_rng(0).standard_normal((5, 20, 2)),
        inputs=np.zeros((5, 20, 1)),
        time=np.arange(20) / 50,
        create=lambda inputs: create_rate_system(weights, np.zeros(2), 0.1, linear),
        weights=weights,
    )
    times, modes = motion.find_modes()
    assert (times[0], times[-1]) == (0, 19 / 50)
    np.testing.assert_allclose(modes, (0.5 - 1 + 2j) / 0.1)  # (λ - 1) / τ


def test_fixed_points_are_drawn(result):
    ax = nwbrnn.plot.fixed_points(result, ax=Figure().add_subplot())
    assert len(ax.lines) >= len(result.recorded["condition"].to_index().unique())
    motion = follow_network(result)
    times, modes = motion.find_modes()
    assert len(times) == len(modes)
    assert motion.find_points("preparation")
