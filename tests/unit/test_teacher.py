import os
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.io
import scipy.linalg
import xarray as xr

from nwbrnn.errors import ConfigError
from nwbrnn.teacher import Circuit, Reaches, TeacherConfig, build_circuit, integrate, simulate_teacher
from nwbrnn.teacher.reaching import (
    compute_directions,
    compute_initial_states,
    compute_preparation_profile,
    create_readout,
)
from nwbrnn.teacher.soc import compute_abscissa_gradient, gain
from tests.messages import names

SEED = 0
SMALL = {"n_neurons": 60, "n_directions": 4, "n_trials": 2, "preparation": 0.2, "movement": 0.3}
ROOT = Path(__file__).parents[2]
SOC_FILE = ROOT / os.environ.get("NWBRNN_TEST_DATA", "../shared") / "data" / "soc_stroud2018.mat"


@pytest.fixture(scope="module")
def circuit():
    return build_circuit(60, seed=SEED)


@pytest.fixture(scope="module")
def simulated(circuit):
    return simulate_teacher(TeacherConfig(**SMALL), circuit=circuit)


def create_random_circuit(n_neurons=10):
    rng = np.random.default_rng(3)
    return Circuit(rng.standard_normal((n_neurons, n_neurons)) / np.sqrt(n_neurons)), rng


def compute_r2_by_hand(predicted, target):
    return 1 - np.sum((target - predicted) ** 2) / np.sum((target - target.mean()) ** 2)


def test_circuit_reaches_the_target_abscissa(circuit):
    assert np.linalg.eigvals(circuit.weights).real.max() <= 0.15 + 1e-9
    assert circuit.abscissa == pytest.approx(np.linalg.eigvals(circuit.weights).real.max())


def test_circuit_obeys_dale_and_has_no_self_connections(circuit):
    assert circuit.n_excitatory == 30
    assert (circuit.weights[:, :30] >= 0).all()
    assert (circuit.weights[:, 30:] <= 0).all()
    assert not np.diag(circuit.weights).any()


def test_inhibition_is_sparse_and_balances_excitation(circuit):
    assert np.mean(circuit.weights[:, 30:] != 0) <= 0.4
    for rows in (slice(0, 30), slice(30, None)):
        excitation, inhibition = circuit.weights[rows, :30].mean(), circuit.weights[rows, 30:].mean()
        assert inhibition == pytest.approx(-3 * excitation, rel=1e-9)


def test_same_seed_builds_the_same_circuit(circuit):
    np.testing.assert_array_equal(build_circuit(60, seed=SEED).weights, circuit.weights)


@pytest.mark.parametrize("n_neurons", [61, 1, 0])
def test_build_circuit_refuses_odd_or_empty(n_neurons):
    with pytest.raises(ConfigError, match=names("n_neurons", "even", n_neurons, n_neurons + 1)):
        build_circuit(n_neurons)


@pytest.mark.parametrize("scale", [0.2, 3.0])  # either side of where 1.5 α and α + 0.2 cross
def test_abscissa_gradient_agrees_with_lyapunov_solver(scale):
    weights = scale * create_random_circuit(12)[0].weights
    abscissa, gradient = compute_abscissa_gradient(weights)
    expected = np.linalg.eigvals(weights).real.max()
    system = weights - max(1.5 * expected, expected + 0.2) * np.eye(12)
    q = scipy.linalg.solve_continuous_lyapunov(system.T, -2 * np.eye(12))
    p = scipy.linalg.solve_continuous_lyapunov(system, -2 * np.eye(12))
    assert abscissa == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(gradient, q @ p / np.trace(q @ p), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0.0, 0.0), (-20.0, -20 * np.tanh(1)), (80.0, 80 * np.tanh(1)), (1e9, 80.0), (-1e9, -20.0)],
)
def test_gain_follows_its_formula(x, expected):
    assert gain(np.array(x)) == pytest.approx(expected)


def test_gain_has_slope_one_at_zero_from_both_sides():
    slopes = gain(np.array([-1e-4, 1e-4])) / np.array([-1e-4, 1e-4])
    np.testing.assert_allclose(slopes, 1, rtol=1e-9)


def test_integrate_agrees_with_scipy():
    circuit, rng = create_random_circuit()
    start, drive = 30 * rng.standard_normal((2, 10)), 10 * rng.standard_normal((2, 10))
    states = integrate(circuit, start, lambda i: drive, dt=0.001, n_steps=400, record_every=100)
    for trial in range(2):
        reference = scipy.integrate.solve_ivp(
            lambda t, x, h=drive[trial]: (-x + circuit.weights @ gain(x) + h) / 0.2,
            (0, 0.4),
            start[trial],
            t_eval=np.linspace(0, 0.4, 5),
            rtol=1e-10,
            atol=1e-10,
        )
        np.testing.assert_allclose(states[trial], reference.y.T, rtol=1e-6, atol=1e-6)


def test_integrate_without_connections_decays_exponentially():
    states = integrate(
        Circuit(np.zeros((2, 2))), np.ones((1, 2)), lambda i: np.zeros((1, 2)), dt=0.01, n_steps=20
    )
    np.testing.assert_allclose(states[0, :, 0], np.exp(-np.arange(21) * 0.01 / 0.2), rtol=1e-6)


@pytest.mark.skipif(not SOC_FILE.exists(), reason=f"no published circuit at {SOC_FILE}")
def test_published_circuit_makes_its_published_movement():
    data = scipy.io.loadmat(SOC_FILE)["data"][0, 0]
    circuit = Circuit(data["W_rec"].astype(float))
    start = data["initial_cond"].astype(float).T
    states = integrate(circuit, start, lambda i: np.zeros_like(start), dt=0.00025, n_steps=2000)[0]
    sampled = states[np.linspace(0, 2000, 200).round().astype(int)]
    readout, target = data["readout"].ravel(), data["initial_target"].ravel()
    predicted = readout[0] + gain(sampled[:, :100]) @ readout[1:]
    assert circuit.abscissa == pytest.approx(0.15, abs=0.001)
    assert compute_r2_by_hand(predicted, target) == pytest.approx(0.9895, abs=0.001)


def test_directions_are_evenly_spaced():
    np.testing.assert_allclose(compute_directions(4), [0, 90, 180, 270])


def test_initial_states_lie_in_the_most_amplified_plane(circuit):
    states = compute_initial_states(circuit, np.array([0.0, 90.0, 180.0]))
    np.testing.assert_allclose(np.linalg.norm(states, axis=1), 1.5 * np.sqrt(60))
    np.testing.assert_allclose(states[0], -states[2], atol=1e-10)
    np.testing.assert_allclose(states[0] @ states[1], 0, atol=1e-9)

    def compute_energy(state):  # ∫ |exp(At) x|² dt by brute force, x scaled to 1
        step = scipy.linalg.expm(0.02 * (circuit.weights - np.eye(60)))
        path = [state / np.linalg.norm(state)]
        for _ in range(1000):
            path.append(step @ path[-1])
        return np.square(path).sum() * 0.02

    random = np.random.default_rng(0).standard_normal((20, 60))
    assert compute_energy(states[0]) >= compute_energy(states[1])
    assert compute_energy(states[1]) > max(map(compute_energy, random))


def test_preparation_profile_rises_to_one_and_falls():
    time = np.array([-0.15, -1e-12, 0.0, 0.002])
    np.testing.assert_allclose(compute_preparation_profile(time), [np.exp(-1), 1, 1, np.exp(-1)])


def test_readout_has_unit_deviation_and_zero_minimum():
    rates = np.random.default_rng(0).standard_normal((3, 50, 7))
    weights, offsets = create_readout(rates, 2, np.random.default_rng(1))
    muscles = rates @ weights.T + offsets
    np.testing.assert_allclose(muscles.std(axis=(0, 1)), 1)
    np.testing.assert_allclose(muscles.min(axis=(0, 1)), 0, atol=1e-12)


def test_same_seed_simulates_the_same_dataset(circuit, simulated):
    again = simulate_teacher(TeacherConfig(**SMALL), circuit=circuit)
    xr.testing.assert_identical(simulated, again)


def test_teacher_outputs_are_its_readout_of_its_rates(simulated):
    above = simulated["rates"].values.astype(float) - 20
    expected = above @ simulated["readout"].values.T + simulated["readout_offset"].values
    np.testing.assert_allclose(simulated["outputs"], expected, atol=1e-4)
    assert (simulated["readout"].values[:, 30:] == 0).all()


def test_teacher_time_axis_and_bins(simulated):
    assert simulated.sizes["trial"] == 8
    assert simulated.attrs["bin_size"] == 0.01
    np.testing.assert_allclose(simulated["time"], np.arange(-0.195, 0.3, 0.01), atol=1e-12)
    cue = simulated["inputs"].sel(input="go_cue")
    np.testing.assert_array_equal(cue, np.broadcast_to(simulated["time"].values > 0, cue.shape))
    assert list(np.unique(simulated["condition"])) == ["0", "180", "270", "90"]


def test_teacher_spikes_are_poisson_about_its_rates(simulated):
    expected = simulated["rates"].values.astype(float) * 0.01
    z = (simulated["spike_counts"].values - expected).sum() / np.sqrt(expected.sum())
    fano = np.mean((simulated["spike_counts"].values - expected) ** 2) / expected.mean()
    assert abs(z) < 4
    assert fano == pytest.approx(1, abs=0.05)


def test_kicks_change_only_their_own_run_and_only_after_the_go_cue(circuit):
    reaches = Reaches(TeacherConfig(n_neurons=len(circuit.weights), n_directions=3), circuit)
    order = [2, 0, 2, 1]
    kicks = np.zeros((4, len(circuit.weights)))
    kicks[2, 5] = 4.0
    found, plain = reaches.run(reaches.drive[order], kicks=kicks), reaches.run(reaches.drive)[order]
    same = np.ones(found.shape[:2], dtype=bool)
    same[2, reaches.time > 0] = False
    np.testing.assert_allclose(found[same], plain[same], atol=1e-9)
    assert found[2, reaches.time > 0][0, 5] - plain[2, reaches.time > 0][0, 5] > 3


def test_noise_alone_makes_repeats_differ(circuit, simulated):
    silent = simulate_teacher(TeacherConfig(**SMALL, noise=0), circuit=circuit)
    first, repeat = silent.isel(trial=slice(0, 4)), silent.isel(trial=slice(4, 8))
    np.testing.assert_allclose(first["outputs"].values, repeat["outputs"].values, atol=1e-5)
    assert np.abs(simulated["outputs"].values[:4] - simulated["outputs"].values[4:]).max() > 0.01


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("preparation", 0.205, ["0.01 s", "0.205 s", "0.2 s"]),
        ("movement", 0.007, ["0.01 s", "0.007 s"]),
        ("bin_size", 0.0125, ["0.001 s", "0.0125 s", "0.012 s"]),
    ],
)
def test_simulate_refuses_broken_bins(circuit, setting, value, message):
    settings = SMALL | {setting: value}
    if setting == "bin_size":
        settings |= {"preparation": 0.25, "movement": 0.25}
    with pytest.raises(ConfigError, match=names(setting, *message)):
        simulate_teacher(TeacherConfig(**settings), circuit=circuit)
