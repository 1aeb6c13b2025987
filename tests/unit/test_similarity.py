"""Measures of similarity, against analytic cases and other implementations."""

import warnings

import numpy as np
import pytest
import scipy.spatial
import scipy.stats

from nwbrnn.evaluation import (
    compute_bits_per_spike,
    compute_canonical_correlations,
    compute_controlled_distance,
    compute_dynamical_distance,
    compute_linear_cka,
    compute_principal_angles,
    compute_procrustes_distance,
    compute_psth_r2,
    compute_rotations,
    compute_skill,
    compute_svcca,
    compute_vaf,
    compute_weighted_r2,
    similarity,
)
from nwbrnn.evaluation.rotations import _add_modes, _fit_modes, compute_surrogate_r2, draw_surrogates
from nwbrnn.evaluation.spikes import expect_spikes
from nwbrnn.evaluation.subspaces import decompose
from nwbrnn.evaluation.superfluous import compute_few_shot_r2, compute_mapped_r2
from tests.messages import names


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def rotate(seed, n):
    return np.linalg.qr(draw(seed, n, n))[0]


def test_vaf_forgives_an_offset_and_r2_does_not():
    target = draw(0, 50, 3)
    predicted = target + np.array([1.0, -2.0, 0.5])
    assert compute_vaf(predicted, target) == pytest.approx(1)
    assert compute_weighted_r2(predicted, target) < 0
    noise = 0.3 * draw(1, 50, 3)
    expected = 1 - noise.var(axis=0).sum() / target.var(axis=0).sum()
    assert compute_vaf(target + noise, target) == pytest.approx(expected)
    assert np.isnan(compute_vaf(target, np.ones((50, 3))))


def test_the_mean_skill_of_parts_is_the_pooled_r2():
    target, predicted = draw(0, 40, 3), draw(0, 40, 3) + 0.5 * draw(1, 40, 3)
    parts = [slice(0, 10), slice(10, 20), slice(20, 30), slice(30, 40)]
    skills = [compute_skill(predicted[part], target[part], target) for part in parts]
    assert np.mean(skills) == pytest.approx(compute_weighted_r2(predicted, target))
    assert np.isnan(compute_skill(target, target, np.ones((5, 3))))
    assert np.isnan(compute_skill(target[:0], target[:0], target))


def test_a_population_is_reduced_to_the_components_that_hold_its_variance():
    scales = np.array([3.0, 2.0, 1.0, 0.01])
    activity = np.linalg.qr(draw(0, 200, 4) - draw(0, 200, 4).mean(axis=0))[0] * scales
    mixed = activity @ rotate(1, 4) + 5
    scores, singular, _ = decompose(np.hstack([mixed, mixed[:, :1]]))
    assert scores.shape == (200, 4)  # a copy of a channel adds no dimension
    scores, singular, _ = decompose(mixed)
    np.testing.assert_allclose(singular, scales, rtol=0.01)
    np.testing.assert_allclose(scores.T @ scores, np.eye(4), atol=1e-10)
    for variance, n_kept in ((0.5, 1), (0.9, 2), (0.999, 3), (1.0, 4)):
        seen = [compute_svcca(mixed, scores[:, [k]], variance=variance) for k in range(4)]
        np.testing.assert_allclose(seen, np.arange(4) < n_kept, atol=1e-6)


def test_svcca_sees_what_is_shared_and_nothing_of_small_components():
    shared, private = draw(0, 500, 3), draw(1, 500, 2)
    first = np.hstack([shared, 1e-3 * private]) @ rotate(2, 5)
    second = np.hstack([shared @ rotate(3, 3), 1e-3 * draw(4, 500, 2)]) @ rotate(5, 5)
    assert compute_svcca(first, second) == pytest.approx(1, abs=1e-4)
    assert compute_svcca(first, second, variance=1.0) < 0.8
    kept = compute_canonical_correlations(first, second, n_components=3)
    assert compute_svcca(first, second) == pytest.approx(kept.mean())


def test_principal_angles_of_known_planes():
    signals = draw(0, 400, 2)
    angle = np.deg2rad(30)
    first = signals @ np.array([[1, 0, 0, 0], [0, 1, 0, 0]])
    second = signals @ np.array([[np.cos(angle), 0, np.sin(angle), 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(compute_principal_angles(first, second, n_components=2), [0, 30], atol=1e-6)
    orthogonal = signals @ np.array([[0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(compute_principal_angles(first, orthogonal), [90, 90], atol=1e-6)


def test_procrustes_distance_is_that_of_scipy():
    first, second = draw(0, 60, 4), draw(1, 60, 4)
    disparity = scipy.spatial.procrustes(first, second)[2]
    assert np.cos(np.deg2rad(compute_procrustes_distance(first, second))) ** 2 == pytest.approx(1 - disparity)
    assert compute_procrustes_distance(first, 3 * first @ rotate(2, 4) + 1) == pytest.approx(0, abs=1e-5)
    assert compute_procrustes_distance(first, np.pad(first, ((0, 0), (0, 3)))) == pytest.approx(0, abs=1e-5)
    assert np.isnan(compute_procrustes_distance(first, np.ones((60, 4))))


def test_linear_cka_is_the_normalized_hsic_of_linear_kernels():
    first, second = draw(0, 30, 4), draw(1, 30, 6) + np.pad(draw(0, 30, 4), ((0, 0), (0, 2)))
    center = np.eye(30) - 1 / 30

    def hsic(x, y):
        return np.trace(x @ x.T @ center @ y @ y.T @ center)

    expected = hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second))
    assert compute_linear_cka(first, second) == pytest.approx(expected)
    assert compute_linear_cka(first, 2 * first @ rotate(2, 4) - 1) == pytest.approx(1)
    assert np.isnan(compute_linear_cka(first, np.ones((30, 2))))


def create_rotation(frequencies, n_channels=12, n_conditions=5, n_time=200, dt=0.005, decay=0.0):
    time = dt * np.arange(n_time)
    planes = []
    for i, frequency in enumerate(frequencies):
        phase = 2 * np.pi * (np.arange(n_conditions) / n_conditions)[:, np.newaxis] * (i + 1)
        angle = 2 * np.pi * frequency * time + phase
        planes += [np.cos(angle), np.sin(angle)]
    states = np.stack(planes, axis=-1) * np.exp(-decay * time)[:, np.newaxis]
    return states @ rotate(0, n_channels)[: states.shape[-1]]


def test_jpca_finds_the_frequencies_of_rotations():
    found = compute_rotations(create_rotation([3.0, 1.5]), bin_size=0.005, n_components=4)
    np.testing.assert_allclose(found.frequencies, [3.0, 1.5], rtol=2e-3)
    assert found.r2 == pytest.approx(1, abs=1e-3)
    assert found.unconstrained_r2 >= found.r2
    assert found.projections.shape == (5, 200, 2)
    radius = np.linalg.norm(found.projections, axis=2)
    np.testing.assert_allclose(radius, radius.mean(), rtol=1e-2)


def test_jpca_with_decay_is_explained_in_part():
    rate, decay = 2 * np.pi * 2.0, 4.0
    found = compute_rotations(create_rotation([2.0], decay=decay), bin_size=0.005, n_components=2)
    # dx/dt = (-decay + i rate) x: the skew part explains rate² / (rate² + decay²)
    assert found.r2 == pytest.approx(rate**2 / (rate**2 + decay**2), abs=5e-3)
    assert found.unconstrained_r2 == pytest.approx(1, abs=1e-3)


def test_the_skew_fit_is_the_least_squares_solution():
    activity = draw(3, 4, 30, 8)
    found = compute_rotations(activity, bin_size=0.01, n_components=4)
    centered = (activity - activity.mean(axis=0)).reshape(-1, 8)
    states = (centered @ np.linalg.svd(centered)[2][:4].T).reshape(4, 30, 4)
    velocity = (np.diff(states, axis=1) / 0.01).reshape(-1, 4)
    middle = ((states[:, 1:] + states[:, :-1]) / 2).reshape(-1, 4)
    basis = []
    for i in range(4):
        for j in range(i):
            matrix = np.zeros((4, 4))
            matrix[i, j], matrix[j, i] = 1, -1
            basis.append((middle @ matrix).ravel())
    residual = np.linalg.lstsq(np.stack(basis, axis=1), velocity.ravel())[1][0]
    assert found.r2 == pytest.approx(1 - residual / np.square(velocity).sum())


def test_jpca_without_variation_between_conditions_is_nan():
    same = np.repeat(draw(0, 1, 20, 4), 3, axis=0)
    found = compute_rotations(same, bin_size=0.01)
    assert np.isnan(found.r2)
    assert found.frequencies.size == 0


def test_bits_per_spike_by_poisson_likelihoods():
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.1, 2.0, (200, 5))
    counts = rng.poisson(expected)
    mean = np.broadcast_to(counts.mean(axis=0), counts.shape)
    gain = scipy.stats.poisson.logpmf(counts, expected).sum() - scipy.stats.poisson.logpmf(counts, mean).sum()
    assert compute_bits_per_spike(expected, counts) == pytest.approx(gain / counts.sum() / np.log(2))
    assert compute_bits_per_spike(mean, counts) == pytest.approx(0, abs=1e-12)
    assert np.isnan(compute_bits_per_spike(expected, np.zeros((200, 5))))
    assert compute_bits_per_spike(np.zeros((200, 5)), counts) == -np.inf


def test_bits_per_spike_refuses_negative_rates_and_other_shapes():
    with pytest.raises(ValueError, match=names("(3, 2)", "(3, 1)")):
        compute_bits_per_spike(np.ones((3, 1)), np.ones((3, 2)))
    with pytest.raises(ValueError, match=names("(3, 2)", "-1.0")):
        compute_bits_per_spike(-np.ones((3, 2)), np.ones((3, 2)))


def test_linear_predictions_below_nothing_count_as_a_little():
    rates = np.array([[-3.0, 4.0], [0.1, 10.0]])
    expected = expect_spikes(rates, np.array([4.0, 8.0]), bin_size=0.1)
    np.testing.assert_allclose(expected, [[0.02, 0.4], [0.02, 1.0]])


def test_psth_r2_is_the_mean_over_neurons_that_vary():
    target = np.stack([np.arange(4.0), 2 * np.arange(4.0), np.ones(4)], axis=1)
    predicted = target + np.array([0, 1, 0])
    assert compute_psth_r2(predicted, target) == pytest.approx((1 + 1 - 4 / 20) / 2)
    assert np.isnan(compute_psth_r2(target[:, 2:], target[:, 2:]))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 100, 40, 60), (1, 80, 12, 5), (3, 60, 20, 20)], ids=str)
def test_dynamical_distances_are_those_of_their_package(sizes):
    package = pytest.importorskip("DSA", reason="dsa-metric is not installed")
    n_conditions, n_time, *n_channels = sizes
    inputs = draw(2, n_conditions, n_time, 2)
    pair = [np.cumsum(draw(i, n_conditions, n_time, n), axis=1) for i, n in enumerate(n_channels)]
    states, n_kept = similarity._reduce_both(*pair, 10)
    plain = package.DSA(*states, n_delays=5, rank=n_kept, score_method="wasserstein").fit_score()
    assert compute_dynamical_distance(*pair) == pytest.approx(np.squeeze(plain), rel=0.01)
    how = {"dmd_config": {"n_delays": 1}, "simdist_config": {"score_method": "wasserstein"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = package.InputDSA(states[0], inputs, states[1], inputs, dmd_class=package.DMDc, **how)
        expected = np.squeeze(given.fit_score())
    assert compute_controlled_distance(*pair, inputs) == pytest.approx(expected, rel=0.01)


def test_dynamics_are_compared_in_components_of_the_same_number_and_total_variance():
    pair = 3 + draw(0, 2, 30, 5), 7 * draw(1, 2, 30, 4)
    found, n_kept = similarity._reduce_both(*pair, 6)
    assert n_kept == 4
    for activity, states in zip(pair, found, strict=True):
        assert states.shape == (2, 30, 4)
        assert states.std() == pytest.approx(1)
        centred = (activity - activity.mean(axis=(0, 1))).reshape(60, -1)
        singular = np.linalg.svd(centred, compute_uv=False)[:4]
        reduced = np.linalg.svd(states.reshape(60, 4), compute_uv=False)
        np.testing.assert_allclose(reduced / reduced[0], singular / singular[0])


def test_a_population_that_does_not_vary_has_no_dynamics():
    """As the hidden units of an untrained network without inputs."""
    constant, other = np.ones((2, 30, 5)), draw(1, 2, 30, 5)
    assert np.isnan(compute_dynamical_distance(other, constant))
    assert np.isnan(compute_controlled_distance(constant, other, draw(2, 2, 30, 1)))


@pytest.mark.parametrize("n_time", [1, 2, 5, 6, 20, 60])
@pytest.mark.parametrize("n_conditions", [1, 3])
def test_short_recordings_have_a_distance_or_none(n_conditions, n_time):
    first, second = draw(0, n_conditions, n_time, 12), draw(1, n_conditions, n_time, 4)
    plain = compute_dynamical_distance(first, second)
    assert np.isfinite(plain) == (n_time > 5 and n_conditions * (n_time - 4) >= 4 * 5)
    given = compute_controlled_distance(first, second, draw(2, n_conditions, n_time, 2))
    assert np.isfinite(given) == (n_time > 1 and n_conditions * n_time >= 4 + 2)


def test_dynamical_distance_sees_frequencies_and_not_coordinates():
    slow = create_rotation([2.0, 1.0])
    turned, fast = slow @ rotate(7, 12), create_rotation([6.0, 3.0])
    near, far = (
        compute_dynamical_distance(slow, other, n_components=4, n_delays=3) for other in (turned, fast)
    )
    assert near < 0.2 * far


def test_inputs_are_no_dynamics():
    """Populations whose linear dynamics are the same but for their axes and their inputs' weights."""
    rng = np.random.default_rng(0)

    def turn(radius, angle):
        return radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def run(dynamics, weights):
        states = np.zeros((8, 120, 2))
        for t in range(119):
            states[:, t + 1] = states[:, t] @ dynamics.T + inputs[:, t] @ weights.T
        return states

    inputs = rng.standard_normal((8, 120, 2))
    weights, others = rng.standard_normal((2, 2, 2))
    slow, fast = turn(0.95, 0.2), turn(0.7, 0.6)
    first = run(slow, weights)
    rotated = first @ np.linalg.qr(rng.standard_normal((2, 2)))[0]
    assert compute_controlled_distance(first, rotated, inputs) == pytest.approx(0, abs=1e-6)
    assert compute_controlled_distance(first, run(slow, others), inputs) == pytest.approx(0, abs=1e-4)
    assert compute_controlled_distance(first, run(fast, weights), inputs) > 0.01


# ------------------------------------------------------------------ rotations against surrogates


def covariances(tensor):
    return [np.einsum(path, tensor, tensor) for path in ("itn,jtn->ij", "cin,cjn->ij", "cti,ctj->ij")]


def create_structured(seed=0, sizes=(5, 7, 6)):
    tensor = draw(seed, *sizes)
    for axis, n in enumerate(sizes):
        mixing = draw(seed + axis + 1, n, n) * np.linspace(2, 0.2, n)
        tensor = np.moveaxis(np.tensordot(tensor, mixing, axes=(axis, 0)), -1, axis)
    return tensor - tensor.mean(axis=0)


def test_surrogates_have_the_covariances_of_the_recording():
    tensor = create_structured()
    surrogates = np.array(draw_surrogates(tensor, 4000, np.random.default_rng(0)))
    shift = tensor.mean(axis=(1, 2), keepdims=True)
    flat = tensor.reshape(-1, 6)
    axes = np.linalg.svd(flat, full_matrices=False)[2]  # surrogates are on the principal components
    expected = covariances(tensor @ axes.T - (tensor @ axes.T).mean(axis=(1, 2), keepdims=True))
    centred = surrogates - surrogates.mean(axis=0)
    found = [np.mean([covariances(one)[mode] for one in centred], axis=0) for mode in range(3)]
    for mode in range(3):
        error = np.linalg.norm(found[mode] - expected[mode]) / np.linalg.norm(expected[mode])
        assert error < 0.05, (mode, error)
    assert surrogates.shape[1:] == tensor.shape
    assert np.abs(shift).max() < np.abs(tensor).max()


def test_multipliers_meet_all_marginal_sums():
    rng = np.random.default_rng(1)
    targets = [rng.exponential(size=n) + 0.01 for n in (4, 6, 5)]
    targets = [one / one.sum() * 8 for one in targets]
    inverse = 1 / _add_modes(_fit_modes(targets))
    assert (inverse > 0).all()
    for mode, axes in enumerate(((1, 2), (0, 2), (0, 1))):
        np.testing.assert_allclose(inverse.sum(axis=axes), targets[mode], rtol=1e-3)


def test_without_structure_every_variance_is_the_same():
    modes = _fit_modes([np.full(n, 60.0 / n) for n in (3, 4, 5)])
    np.testing.assert_allclose(1 / _add_modes(modes), 1, rtol=1e-6)


def test_rotations_are_told_from_surrogates_and_surrogates_are_not():
    activity = create_rotation((1.5, 0.8), n_time=60, dt=0.02)
    found = compute_rotations(activity, bin_size=0.02).r2
    assert found > compute_surrogate_r2(activity, bin_size=0.02, n_surrogates=20).max()
    ranks = []
    structured = create_structured(sizes=(5, 20, 8))
    for one in draw_surrogates(structured, 10, np.random.default_rng(3)):
        nulls = compute_surrogate_r2(one, bin_size=0.02, n_surrogates=20)
        ranks.append((nulls >= compute_rotations(one, bin_size=0.02).r2).mean())
    assert 0.2 < np.mean(ranks) < 0.8


@pytest.mark.parametrize("unit", [1e-7, 1e7])
def test_surrogates_do_not_depend_on_the_unit_of_the_recording(unit):
    activity = create_structured(sizes=(5, 20, 8))
    found, scaled = (draw_surrogates(u * activity, 2, np.random.default_rng(3)) for u in (1.0, unit))
    assert len(scaled) == 2
    np.testing.assert_allclose(np.abs(scaled), unit * np.abs(found), rtol=1e-5, atol=1e-6 * unit)


def test_conditions_that_do_not_differ_have_no_surrogates():
    same = np.broadcast_to(draw(0, 20, 4), (3, 20, 4))
    assert compute_surrogate_r2(same, bin_size=0.02).size == 0


# ------------------------------------------------------------------ what is not in the recording


def create_courses(n_conditions=8, n_time=30, n=3, seed=0):
    courses = np.cumsum(draw(seed, n_conditions, n_time, n), axis=1)
    return (courses - courses.mean(axis=(0, 1))) / courses.std(axis=(0, 1))


def test_few_trials_tell_a_network_that_does_more_than_it_has_to():
    latent, extra = create_courses(), create_courses(n=60, seed=1)
    readout = draw(2, 3, 20)
    conditions = np.repeat(np.arange(8), 6)
    rates = latent[conditions] @ readout + 1.5 * draw(3, 48, 30, 20)
    scores = []
    for hidden in (latent, np.concatenate([latent, 3 * extra], axis=2) @ rotate(4, 63)):
        trials = [(hidden[c], r) for c, r in zip(conditions, rates, strict=True)]
        test = hidden.reshape(-1, hidden.shape[2]), (latent @ readout).reshape(-1, 20)
        scores.append(np.median(compute_few_shot_r2(trials, conditions.astype(str).tolist(), test)))
    assert scores[0] > 0.98  # 240 samples, 3 units
    assert scores[1] < scores[0] - 0.05


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_map_explains_the_part_of_a_network_that_is_in_the_recording(share):
    source = draw(0, 8, 400, 5)
    other = draw(1, 8, 400, 6)
    mixing, rest = draw(2, 5, 6), draw(3, 6, 6)
    inside, outside = source @ mixing, other @ rest
    hidden = np.sqrt(1 - share) * inside / inside.std() + np.sqrt(share) * outside / outside.std()
    both = {str(i): (source[i], hidden[i]) for i in range(8)}
    assert compute_mapped_r2(both, both) == pytest.approx(1 - share, abs=0.03)


def test_a_map_is_not_fitted_to_the_condition_that_it_is_scored_on():
    source, hidden = create_courses(n=25), create_courses(n=4, seed=5)
    both = {str(i): (source[i], hidden[i]) for i in range(8)}
    assert compute_mapped_r2(both, both) < 0.1
    assert np.isnan(compute_mapped_r2({"a": both["0"]}, {"a": both["0"]}))
