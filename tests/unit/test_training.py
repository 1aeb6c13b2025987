import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from nwbrnn.config import FitConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.dataset import create_dataset
from nwbrnn.errors import ConfigError, TrainingDivergedError
from nwbrnn.job import fit
from nwbrnn.models import RateRNN
from nwbrnn.prediction import compare_predictions, fit_rate_readout, predict
from nwbrnn.preprocessing import average_conditions, prepare
from nwbrnn.training import gradient, train
from nwbrnn.training.adam import Adam
from nwbrnn.training.batches import create_batch
from tests.messages import names

N_DIRECTIONS, N_REPEATS, N_TIME, N_NEURONS = 4, 6, 30, 12
QUICK = {"hidden": 20, "sampled": 4, "epochs": 8, "min_rate": 0, "method": "gradient"}
RECOVERY = {
    "hidden": 30,
    "sampled": 6,
    "epochs": 300,
    "learning_rate": 0.01,
    "min_rate": 0,
    "method": "gradient",
}


def create_recording(*, noise=0.02, counts=True, seed=0):
    rng = np.random.default_rng(seed)
    reach = np.tile(np.arange(N_DIRECTIONS), N_REPEATS)
    angle = 2 * np.pi * reach / N_DIRECTIONS
    inputs = np.zeros((len(reach), N_TIME, 2))
    inputs[:, :10] = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, np.newaxis]
    recurrent = 0.9 * np.linalg.qr(rng.standard_normal((N_NEURONS, N_NEURONS)))[0]
    weights, readout = rng.standard_normal((N_NEURONS, 2)), rng.standard_normal((3, N_NEURONS))
    state, rates = np.zeros((len(reach), N_NEURONS)), []
    for t in range(N_TIME):
        state = 0.8 * state + 0.2 * (np.tanh(state) @ recurrent.T + inputs[:, t] @ weights.T)
        rates.append(np.tanh(state))
    activity = np.stack(rates, axis=1)
    activity = activity + noise * rng.standard_normal(activity.shape)
    variables = {
        "outputs": activity @ readout.T,
        "rates": 30 + 25 * activity,
        "inputs": inputs,
    }
    if counts:
        variables["spike_counts"] = rng.poisson(0.02 * np.maximum(variables["rates"], 0))
    return create_dataset(variables, {"condition": reach.astype(str)}, bin_size=0.02)


def train_quickly(*, unchecked=None, **changes):
    config = FitConfig(**(QUICK | changes)).model_copy(update=unchecked or {})
    return train(prepare(create_recording(), config), config)[:2]


@pytest.fixture(scope="module")
def recovered():
    return fit(create_recording(), **RECOVERY)


def test_fit_recovers_a_small_teacher_on_held_out_trials(recovered):
    for level in ("condition averages", "single trials"):
        assert recovered.scores.get("output R2", level).value > 0.9
        assert recovered.scores.get("sampled neurons R2", level).value > 0.9
    test = recovered.recorded["split"].values == "test"
    size = recovered.recorded["output_scale"].values  # muscles count alike, whatever their unit is
    y, z = (ds["outputs"].values[test] / size for ds in (recovered.recorded, recovered.predicted))
    by_hand = 1 - ((y - z) ** 2).sum() / ((y - y.mean(axis=(0, 1))) ** 2).sum()
    assert recovered.scores.get("output R2", "single trials").value == pytest.approx(by_hand, rel=1e-5)


def test_sampled_rates_come_straight_from_their_hidden_units(recovered):
    ds, predicted = recovered.recorded, recovered.predicted
    sampled = np.flatnonzero(ds["sampled"].values)
    hidden = predicted["hidden"].values[..., : len(sampled)]
    expected = ds["rate_offset"].values[sampled] + ds["rate_scale"].values[sampled] * hidden
    np.testing.assert_allclose(predicted["rates"].values[..., sampled], expected, rtol=1e-5)


def test_unsampled_neurons_are_read_from_the_hidden_units_by_linear_regression():
    config = FitConfig(**QUICK | {"hidden": 10})  # fewer than the components that are kept
    ds = prepare(create_recording(), config)
    weights = train(ds, config).weights
    weights |= fit_rate_readout(ds, weights, config)
    predicted = predict(ds, weights, config)
    known = ds["split"].values != "test"
    averages = [
        one[name].isel(trial=known).groupby("condition").mean("trial").values.reshape(-1, one[name].shape[-1])
        for one, name in ((predicted, "hidden"), (ds, "rates"))
    ]
    regressors = np.column_stack([averages[0], np.ones(len(averages[0]))]).astype(np.float64)
    coefficients = np.linalg.lstsq(regressors, averages[1])[0]
    hidden = predicted["hidden"].values
    expected = hidden @ coefficients[:-1] + coefficients[-1]
    unsampled = ~ds["sampled"].values
    np.testing.assert_allclose(
        predicted["rates"].values[..., unsampled], expected[..., unsampled], rtol=1e-3, atol=1e-2
    )


def test_trials_that_are_alike_have_the_same_predictions_to_the_last_bit(recovered):
    for values in (recovered.predicted[name].values for name in ("outputs", "rates", "hidden")):
        repeats = values.reshape(N_REPEATS, N_DIRECTIONS, *values.shape[1:])
        assert (repeats == repeats[0]).all()
        assert len(np.unique(repeats[0, :, -1], axis=0)) == N_DIRECTIONS


def test_trials_are_compared_whole(recovered, monkeypatch):
    """Not by columns, which takes longer than the network, and gives another shape in NumPy 2.0.0."""
    unique, axes = np.unique, []
    monkeypatch.setattr(
        np, "unique", lambda *a, **given: axes.append(given.get("axis")) or unique(*a, **given)
    )
    ds = recovered.recorded.isel(trial=[0, 1, N_DIRECTIONS, 2])
    ds["inputs"].values = np.asfortranarray(ds["inputs"].values)
    found = predict(ds, recovered.weights, recovered.config, fitted=recovered.recorded)["hidden"]
    assert axes
    assert set(axes) == {None}
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(found, recovered.predicted["hidden"][[0, 1, N_DIRECTIONS, 2]], atol=1e-6)


def run_by_hand(parameters, inputs, alpha):
    """Outputs and rates of the network, one step after the other."""
    states = parameters["initial_state"].expand(len(inputs), -1)
    rates = []
    for now in inputs.unbind(1):
        drive = torch.tanh(states) @ parameters["recurrent_weights"].T + now @ parameters["input_weights"].T
        states = (1 - alpha) * states + alpha * (drive + parameters["bias"])
        rates.append(torch.tanh(states))
    rates = torch.stack(rates, dim=1)
    return rates @ parameters["output_weights"].T + parameters["output_bias"], rates


def compute_error_by_hand(predicted, target):
    return (target - predicted).square().sum() / (target - target.mean(dim=(0, 1))).square().sum()


def test_gradient_descent_is_adam_with_a_cosine_schedule_on_the_sum_of_all_terms():
    settings = {"epochs": 6, "learning_rate": 0.02, "max_gradient_norm": 0.5, "dynamics_weight": 0.5}
    settings |= {"weight_penalty": 0.01, "rate_penalty": 0.2, "smoothness_penalty": 3.0}
    settings |= {"input_penalty": 0.03}
    config = FitConfig(**QUICK | settings | {"precision": "float64", "validation": 0, "average": False})
    ds = prepare(create_recording(), config)
    start = RateRNN((2, 20, 3), config, bin_size=0.02).to_weights()
    parameters = {name: torch.tensor(values, requires_grad=True) for name, values in start.items()}
    chosen = ds.isel(trial=ds["split"].values == "train")
    sampled = chosen.isel(unit=chosen["sampled"].values)
    normal = (sampled["rates"].values - sampled["rate_offset"].values) / sampled["rate_scale"].values
    inputs = torch.tensor(chosen["inputs"].values, dtype=torch.float64)
    scaled = (chosen["outputs"] / chosen["output_scale"]).values.astype(np.float32)
    outputs = torch.tensor(scaled, dtype=torch.float64)
    optimizer = torch.optim.Adam(parameters.values(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    losses = []
    for _ in range(6):
        predicted, rates = run_by_hand(parameters, inputs, 0.02 / config.tau)
        squares = sum(parameters[name].square().sum() for name in ("recurrent_weights", "output_weights"))
        loss = compute_error_by_hand(predicted, outputs) + 0.01 * squares
        loss = loss + 0.03 * parameters["input_weights"].square().sum()
        loss = loss + 0.5 * compute_error_by_hand(rates[..., :4], torch.tensor(normal, dtype=torch.float64))
        loss = loss + 0.2 * rates.square().mean() + 3.0 * rates.diff(dim=1).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 0.5)
        optimizer.step()
        schedule.step()
    trained = train(ds, config)
    np.testing.assert_allclose(trained.history["train_total"], losses, rtol=1e-6)
    assert losses[-1] < 0.9 * losses[0]
    for name, expected in parameters.items():
        np.testing.assert_allclose(
            trained.weights[name], expected.detach(), rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_training_noise_has_the_standard_deviation_that_is_asked_for():
    # without recurrence and memory the rate of a unit is tanh(drive + noise)
    settings = {"gain": 0.0, "tau": 0.02, "noise": 0.7, "validation": 0, "average": False, "epochs": 1}
    config = FitConfig(**QUICK | settings | {"hidden": 50})
    ds = prepare(create_recording(), config)
    chosen = ds.isel(trial=ds["split"].values == "train")
    drive = (
        chosen["inputs"].values @ RateRNN((2, 50, 3), config, bin_size=0.02).to_weights()["input_weights"].T
    )
    nodes, factors = np.polynomial.hermite_e.hermegauss(40)
    squares = np.tanh(drive[..., np.newaxis] + 0.7 * nodes) ** 2
    expected = (squares @ factors).mean() / factors.sum()
    assert train(ds, config).history["train_rate"][0] == pytest.approx(expected, rel=0.03)


def test_losses_fall(recovered):
    history = recovered.history
    assert history["train_output"][-1] < 0.1 * history["train_output"][0]
    assert history["train_dynamics"][-1] < 0.1 * history["train_dynamics"][0]


def test_first_loss_is_that_of_the_initial_network():
    config = FitConfig(**QUICK, average=False)
    ds = prepare(create_recording(), config)
    sizes = (ds.sizes["input"], 20, ds.sizes["output"])
    start = RateRNN(sizes, config, bin_size=0.02).to_weights()
    chosen = ds.isel(trial=ds["split"].values == "train")
    x, outputs = np.broadcast_to(start["initial_state"], (chosen.sizes["trial"], 20)), []
    for u in chosen["inputs"].values.swapaxes(0, 1):
        drive = u @ start["input_weights"].T + start["bias"]
        x = 0.8 * x + 0.2 * (np.tanh(x) @ start["recurrent_weights"].T + drive)
        outputs.append(np.tanh(x) @ start["output_weights"].T + start["output_bias"])
    y, z = (chosen["outputs"] / chosen["output_scale"]).values, np.stack(outputs, axis=1)
    expected = ((y - z) ** 2).sum() / ((y - y.mean(axis=(0, 1))) ** 2).sum()
    assert train(ds, config)[1]["train_output"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_same_seed_trains_the_same_weights_whatever_memory_it_uses(monkeypatch, noise):
    first, history = train_quickly(noise=noise, validation=0)
    monkeypatch.setattr(gradient, "reuse_memory", nullcontext)
    second, again = train_quickly(noise=noise, validation=0)
    other = train_quickly(noise=noise, validation=0, seed=1)[0]
    assert history == again
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert (first["recurrent_weights"] != other["recurrent_weights"]).any()


def test_lambda_zero_does_not_look_at_the_neurons():
    config = FitConfig(**QUICK, dynamics_weight=0, validation=0)
    ds = prepare(create_recording(), config)
    shuffled = ds.assign(rates=ds["rates"][:, ::-1].assign_coords(time=ds["time"]))
    weights, others = train(ds, config)[0], train(shuffled, config)[0]
    for name, values in weights.items():
        np.testing.assert_allclose(values, others[name], rtol=1e-6, atol=1e-8)
    with_dynamics = train_quickly(validation=0)[0]
    assert np.abs(with_dynamics["recurrent_weights"] - weights["recurrent_weights"]).max() > 1e-4


def test_no_sampled_neurons_leave_only_the_output():
    result = fit(create_recording(), **(QUICK | {"sampled": 0}))
    assert "train_dynamics" not in result.history
    assert np.isnan(result.scores.get("sampled neurons R2").value)
    assert np.isfinite(result.scores.get("unsampled neurons R2").value)


def test_poisson_error_learns_from_counts():
    settings = RECOVERY | {"epochs": 150, "dynamics_error": "poisson"}
    ds = create_recording()
    counts = np.maximum(0.02 * ds["rates"].values, 0)  # as of very many trials
    ds = ds.assign(spike_counts=(ds["spike_counts"].dims, counts, {"units": "1"}))
    result = fit(ds, **settings)
    assert result.history["train_dynamics"][-1] < 0.2
    assert result.scores.get("sampled neurons R2").value > 0.8
    assert (result.predicted["rates"].values[..., result.recorded["sampled"].values] > 0).all()


def test_poisson_error_takes_whole_counts():
    history = fit(create_recording(), **QUICK, dynamics_error="poisson").history
    assert history["train_dynamics"][-1] < history["train_dynamics"][0]


def test_poisson_error_needs_counts():
    with pytest.raises(ConfigError, match=names("dynamics_error", "'poisson'", "'squared'")):
        fit(create_recording(counts=False), **QUICK, dynamics_error="poisson")


def test_divergence_is_reported_with_epoch_and_term():
    remedies = ("learning_rate", "max_gradient_norm")
    with pytest.raises(TrainingDivergedError, match=names("epoch 1", "'output'", *remedies)) as caught:
        train_quickly(unchecked={"learning_rate": 1e30}, epochs=20)
    assert (caught.value.epoch, caught.value.term) == (1, "loss term 'output'")


def test_training_stops_early_when_validation_does_not_improve():
    weights, history = train_quickly(epochs=100, patience=3, learning_rate=1.0)
    assert len(history["train_output"]) < 100
    best = int(np.argmin(np.add(history["validation_output"], history["validation_dynamics"])))
    assert len(history["validation_output"]) <= best + 3 + 3
    assert all(np.isfinite(values).all() for values in weights.values())


@pytest.mark.parametrize("stop_after", [None, 4])
def test_the_best_weights_are_kept_or_the_last_if_the_number_of_epochs_is_given(stop_after):
    config = FitConfig(**QUICK | {"epochs": 6, "patience": 1000, "learning_rate": 3.0}, stop_after=stop_after)
    ds = prepare(create_recording(), config)
    trained = train(ds, config)
    losses = trained.history["validation_total"]
    assert min(losses) < 0.9 * losses[-1]  # so large a step that the last are not the best
    if stop_after is None:
        assert trained.best_epoch == np.argmin(losses)
        assert trained.loss == pytest.approx(min(losses))
    else:
        assert trained.best_epoch == 4
        assert trained.loss > 1.05 * min(losses)


@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
def test_neurons_that_vary_by_rounding_alone_are_refused(nonlinearity):
    config = FitConfig(**QUICK | {"sampled": "all", "min_rate": 0, "nonlinearity": nonlinearity})
    recording = create_recording()
    rng = np.random.default_rng(0)
    ulp = np.spacing(np.full_like(recording["rates"].values, 100 / 3))
    recording["rates"].values[:] = 100 / 3 + rng.integers(-1, 2, ulp.shape) * ulp
    with pytest.raises(ConfigError, match=names("sampled", "train")):
        create_batch(prepare(recording, config), "train", config, device=torch.device("cpu"))
    recording["rates"].values[0, 0, 0] += 1e-3
    create_batch(prepare(recording, config), "train", config, device=torch.device("cpu"))


@pytest.mark.parametrize("nonlinearity", ["tanh", "soc", "softplus"])
def test_hidden_rates_that_counts_stand_for_mean_the_recorded_rates(nonlinearity):
    config = FitConfig(**QUICK | {"dynamics_error": "poisson", "nonlinearity": nonlinearity})
    ds = prepare(create_recording(), config)
    batch = create_batch(ds, "train", config, device=torch.device("cpu"))
    sampled = average_conditions(ds.isel(trial=ds["split"].values == "train", unit=ds["sampled"].values))
    mean, scale = sampled["rate_offset"].values, sampled["rate_scale"].values
    expected = {
        "tanh": mean * np.exp(3 * batch.sampled),
        "soc": mean * (1 + batch.sampled),
        "softplus": scale * batch.sampled,
    }[nonlinearity]
    rates = sampled["rates"].values
    assert (rates > 0.1 * mean).mean() > 0.9  # others count as a twentieth of the mean
    known = rates > 0.1 * mean
    np.testing.assert_allclose(expected[known], rates[known], rtol=1e-4)


def test_without_validation_training_runs_to_the_end():
    history = train_quickly(validation=0, patience=1, learning_rate=1.0)[1]
    assert len(history["train_output"]) == QUICK["epochs"]
    assert not any(name.startswith("validation") for name in history)


def test_training_refuses_more_sampled_neurons_than_hidden_units():
    with pytest.raises(ConfigError, match=names("hidden", "at least 4", "got 3")):
        train_quickly(hidden=3)


def test_each_condition_learns_its_own_initial_state():
    states = train_quickly(initial_state="condition")[0]["initial_state"]
    assert len(states) >= N_DIRECTIONS
    assert len(np.unique(states[:N_DIRECTIONS], axis=0)) == N_DIRECTIONS


def test_least_squares_takes_no_epochs():
    config = FitConfig(**QUICK | {"method": "least_squares"})
    assert train(prepare(create_recording(), config), config).best_epoch == 0


def test_training_refuses_more_hidden_units_than_memory():
    with pytest.raises(ConfigError, match=names("hidden", "3000000", "GB")):
        train_quickly(unchecked={"hidden": 3_000_000})


def test_the_distance_of_two_predictions_is_that_of_the_worst_bin_of_any_channel():
    """Half of the range of one channel in one bin is ten times what is allowed, a twentieth."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((4, 30, 3)) for name in ("outputs", "rates", "inputs", "hidden")}
    stored = create_dataset(arrays, {"condition": list("abab")}, bin_size=0.02)
    stored = stored.assign_coords(output_scale=("output", [1.0, 2.0, 3.0]))
    repeated = stored.copy(deep=True)
    for name in ("outputs", "hidden"):
        repeated[name].values[2, 7, 1] += 0.5 * np.ptp(stored[name].values[..., 1])
    ratios = compare_predictions(stored, repeated)
    assert ratios == {
        "outputs": pytest.approx(10, rel=0.02),
        "rates": 0,
        "hidden": pytest.approx(10, rel=0.02),
    }


def test_progress_is_called_after_every_epoch():
    calls = []
    result = fit(create_recording(), progress=lambda epoch, losses: calls.append((epoch, losses)), **QUICK)
    assert [epoch for epoch, _ in calls] == list(range(QUICK["epochs"]))
    assert [losses["train_output"] for _, losses in calls] == result.history["train_output"]
    assert {"train_dynamics", "train_rate", "validation_output"} <= set(calls[0][1])


@pytest.mark.parametrize("average", [True, False])
def test_batch_holds_the_chosen_trials(average):
    config = FitConfig(**QUICK, average=average)
    ds = prepare(create_recording(), config)
    batch = create_batch(ds, "train", config, device=torch.device("cpu"))
    chosen = ds.isel(trial=ds["split"].values == "train")
    outputs = chosen["outputs"] / chosen["output_scale"]
    if average:
        order = list(dict.fromkeys(chosen["condition"].values.tolist()))  # of first appearance
        outputs = outputs.groupby("condition").mean("trial").sel(condition=order)
        outputs = outputs.transpose("condition", "time", "output")
    assert len(batch.inputs) == len(outputs)
    np.testing.assert_allclose(batch.targets.outputs, outputs, atol=1e-6)
    rates = chosen["rates"][..., ds["sampled"].values]
    if average:
        rates = rates.groupby("condition").mean("trial").sel(condition=order)
        rates = rates.transpose("condition", "time", "unit")
    scale = batch.targets.dynamics.numpy() * rates["rate_scale"].values + rates["rate_offset"].values
    np.testing.assert_allclose(scale, rates, atol=1e-4)


def test_batch_of_an_empty_split_is_none_and_cannot_be_trained_on():
    config = FitConfig(**QUICK, validation=0)
    ds = prepare(create_recording(), config)
    assert create_batch(ds, "validation", config, device=torch.device("cpu")) is None
    with pytest.raises(ValueError, match=names("split", "'train'", "split_trials")):
        train(ds.isel(trial=ds["split"].values == "test"), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, ["hidden", "equal to 1", "got 0"]),
        ({"hidden": True}, ["hidden", "got True"]),
        ({"average": 1.5}, ["average", "true or false", "got 1.5"]),
        ({"learning_rate": 0}, ["learning_rate", "greater than 0", "got 0"]),
        ({"dynamics_weight": -1}, ["dynamics_weight", "'cv'", "got -1"]),
        ({"dynamics_error": "cubic"}, ["dynamics_error", "'squared' or 'poisson'", "'cubic'"]),
        ({"test": 0.6, "validation": 0.4}, ["test + validation", "less than 1"]),
        ({"sampled": 2.5}, ["sampled", "fraction", "got 2.5"]),
        ({"lamda": 1}, ["lamda", "nwbrnn config"]),
    ],
)
def test_unsuitable_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=names("fit.yaml", *message)):
        parse_settings(FitConfig, settings, source="fit.yaml")


def test_all_unsuitable_settings_are_named_and_none_are_needed():
    with pytest.raises(ConfigError, match=names("x", "hidden", "epochs")):
        parse_settings(FitConfig, {"hidden": 0, "epochs": 0}, source="x")
    assert parse_settings(FitConfig, {}, source="x") == FitConfig()


def test_fit_refuses_an_unknown_setting():
    with pytest.raises(ConfigError, match=names("fit", "hiden", "hidden")):
        fit(create_recording(), hiden=10)


def test_divergence_of_the_last_step_is_reported():
    with pytest.raises(TrainingDivergedError, match=names("epoch 1", "learning_rate")):
        train_quickly(unchecked={"learning_rate": 1e30}, epochs=1, validation=0)


def test_more_sampled_neurons_than_hidden_units_are_refused():
    with pytest.raises(ConfigError, match=names("hidden", "at least", "got 2")):
        train_quickly(hidden=2)


def test_adam_takes_the_steps_of_torch():
    shapes = (30, 30), (30,), (7,)
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [torch.nn.Parameter(one.detach().clone()) for one in ours]
    adam, reference = Adam(ours), torch.optim.Adam(theirs)
    for number in range(20):
        adam.forget_gradients()
        reference.zero_grad()
        used = len(shapes) - (number < 3)  # the last one gets no gradient at first
        for one, other in zip(ours[:used], theirs[:used], strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        reference.param_groups[0]["lr"] = rate = 0.1 / (number + 1)
        adam.step(rate)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert adam.moments[2]["step"] == 17


@pytest.mark.slow
def test_a_fit_does_not_import_the_compiler_of_torch():
    code = """
import sys
from tests.unit.test_training import QUICK, create_recording
from nwbrnn.job import fit
fit(create_recording(), **QUICK)
print("torch" in sys.modules, "torch._dynamo" in sys.modules)
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["True", "False"]
