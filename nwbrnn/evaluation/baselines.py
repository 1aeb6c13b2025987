"""The baselines: simpler models that predict the test trials.

To add a baseline, add a :class:`Baseline` to ``BASELINES``. :func:`nwbrnn.assess`, the tables of the command
line, reports, sweeps and the documentation use this list. :func:`predict_baselines` decides which test data a
baseline gets: their inputs and the neurons that it may see, but never their outputs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import hash_dataset
from nwbrnn.evaluation.comparison import average_known, select_known
from nwbrnn.evaluation.ridge import fit_ridge
from nwbrnn.evaluation.subspaces import compute_principal_components
from nwbrnn.preprocessing import average_rows
from nwbrnn.schema import COSINE, HIDDEN_UNIT, SINE

Array = NDArray[np.floating]
Predicted = Mapping[str, Array]
"""``outputs``, ``rates`` or ``hidden``, shape (n_trials, n_time, n_channels); NaN if not predicted."""

N_FOLDS = 5  # of trials or conditions, for penalties and ranks
N_LAGS, LAG = 10, 0.05  # of a Wiener filter; time between lags [s], or one bin if bins are wider
MAX_SEEN = 100  # principal components of the neurons that a Wiener filter sees, if there are more neurons
MAX_RANK = 20
N_KEPT = 12  # predictions to keep: those of all baselines for two fits
MAX_KEPT = 1 << 28  # bytes of predictions to keep in each process; those of a pool can be large
UNTRAINED_GAIN, UNTRAINED_TAU = 0.5, 0.1  # defaults of a network


@dataclass(frozen=True)
class Trials:
    """The data that a baseline gets.

    Attributes
    ----------
    known
        All trials outside the test split. Outputs that the network does not see are NaN.
    shown
        The test trials: task, conditions, and the neurons that the baseline may see.
    n_hidden
        Number of hidden units of the network.
    """

    known: xr.Dataset
    shown: xr.Dataset
    n_hidden: int


@dataclass(frozen=True)
class Baseline:
    """A model that is simpler than a network.

    Attributes
    ----------
    name
        Name in tables.
    meaning
        One line for tables and documentation.
    predict
        Function from the known trials and the shown test data to predictions for the test trials.
    sees
        Test data that the baseline sees in addition to the task; a network sees only the task, unless it
        observes neurons. A baseline that sees neurons is a decoder.
    """

    name: str
    meaning: str
    predict: Callable[[Trials], Predicted]
    sees: str = "task"

    @property
    def decodes(self) -> bool:
        """Whether it sees neurons of the test trials, which a network does not."""
        return self.sees != "task"

    @property
    def label(self) -> str:
        """The name, marked if it is a decoder."""
        return f"{self.name} (decoding)" if self.decodes else self.name


_answers: dict[tuple[Any, ...], Predicted] = {}
"""The latest predictions, by baseline and what it got."""


def predict_baselines(recorded: xr.Dataset, *, n_hidden: int = 0) -> dict[str, xr.Dataset]:
    """Return the predictions of each baseline for the test trials.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    n_hidden
        Number of hidden units of the untrained network; with 0, this baseline is left out.

    Returns
    -------
    dict
        A Dataset by name with ``outputs``, ``rates`` [Hz] and ``mask``, which is False in trials that a
        baseline does not predict. Variables that it does not predict are NaN. Empty if there are only test
        trials.
    """
    is_test = recorded["split"].values == "test"
    if is_test.all():
        return {}
    known, tests = select_known(recorded), recorded.isel(trial=is_test)
    # only a baseline that sees the sampled neurons is told which they are; the answers of the others thus
    # serve all fits of the same trials, such as those of a sweep over numbers of sampled neurons
    unmarked = known.drop_vars("sampled")
    marks, hashes = hash_dataset(known[["sampled"]]), {"known": hash_dataset(unmarked)}
    predicted = {}
    for baseline in BASELINES:
        if baseline.predict is _use_untrained and not n_hidden:
            continue
        shown = _show(tests, baseline.sees)
        if baseline.sees not in hashes:
            hashes[baseline.sees] = hash_dataset(shown)
        told, beside = unmarked, ""
        if baseline.sees == "sampled neurons":
            told, beside = known, marks
        size = n_hidden if baseline.predict is _use_untrained else 0
        key = (baseline, size, known.attrs["bin_size"], hashes["known"], hashes[baseline.sees], beside)
        predicted[baseline.name] = _complete(_ask(baseline, Trials(told, shown, size), key), tests)
    return predicted


def _ask(baseline: Baseline, trials: Trials, key: tuple[Any, ...]) -> Predicted:
    """Return what a baseline predicts, as arrays that cannot be changed; equal data are used only once.

    Parameters
    ----------
    baseline
        The baseline.
    trials
        What it gets.
    key
        The baseline, and numbers and hashes of all that it gets.
    """
    found = _answers.pop(key, None) or baseline.predict(trials)
    for values in found.values():
        values.flags.writeable = False
    _answers[key] = found  # the latest is the last
    while len(_answers) > N_KEPT or _count_bytes() > MAX_KEPT:
        del _answers[next(iter(_answers))]
    return found


def _count_bytes() -> int:
    return sum(values.nbytes for found in _answers.values() for values in found.values())


def _show(tests: xr.Dataset, sees: str) -> xr.Dataset:
    """Return the test trials without the data that a baseline may not see."""
    shown = tests[["inputs", "mask"]]
    if sees == "task":
        return shown
    rates = tests["rates"].values if sees == "neurons" else np.where(tests["sampled"], tests["rates"], np.nan)
    return shown.assign(rates=(tests["rates"].dims, rates))


def _complete(found: Predicted, tests: xr.Dataset) -> xr.Dataset:
    """Return predictions as a Dataset, with NaN for variables that are not predicted."""
    mask = tests["mask"].values.copy()
    variables: dict[str, Any] = {}
    for name in ("outputs", "rates"):
        shape, dims = tests[name].shape, tests[name].dims
        values = np.asarray(found.get(name, np.full(shape, np.nan)), dtype=np.float64)
        if name in found:
            mask &= np.isfinite(values).any(axis=2)
        variables[name] = (dims, values)
    if "hidden" in found:
        variables["hidden"] = ((*tests["mask"].dims, HIDDEN_UNIT), found["hidden"])
    coords = {name: tests[name] for name in ("condition", "sampled", "rate_scale", "rate_offset")}
    return xr.Dataset(variables | {"mask": (tests["mask"].dims, mask)}, coords=coords, attrs=tests.attrs)


# ------------------------------------------------------------------ how they predict


def _use_average(trials: Trials) -> Predicted:
    expected = average_known(trials.known, trials.shown)
    mask = expected["mask"].values[..., np.newaxis]
    return {name: np.where(mask, expected[name].values, np.nan) for name in ("outputs", "rates")}


def _use_task(trials: Trials) -> Predicted:
    """Regress each bin of each channel on the variables of the task."""
    variables = [_find_variables(ds, trials.known) for ds in (trials.known, trials.shown)]
    found = {}
    for name in ("outputs", "rates"):
        has, values = _fill(trials.known, name)
        folds = [
            (variables[0][has][rows], values[rows].reshape(len(rows), -1))
            for rows in _list_folds(trials.known.isel(trial=has), trials.shown)
        ]
        ridge = fit_ridge(folds)
        found[name] = ridge.predict(variables[1]).reshape(len(variables[1]), *values.shape[1:])
    return found


def _find_variables(ds: xr.Dataset, known: xr.Dataset) -> Array:
    """Return the task variables of each trial, shape (n_trials, n_variables).

    They are two harmonics of a direction, if its cosine and sine are inputs, and the largest values of all
    other inputs. If these are the same in all trials, they are the conditions, one-hot.
    """
    inputs = np.nan_to_num(ds["inputs"].values).astype(np.float64)
    rows, bins = np.indices(inputs[:, 0].shape)[0], np.abs(inputs).argmax(axis=1)
    values = inputs[rows, bins, np.arange(inputs.shape[2])]
    names = [str(name) for name in ds["input"].values]
    columns = [values[:, i] for i in range(len(names))]
    for i, name in enumerate(names):
        start = name.removesuffix(COSINE)
        if name.endswith(COSINE) and start + SINE in names and f"{name}2" not in names:
            angle = np.arctan2(values[:, names.index(start + SINE)], values[:, i])
            columns += [np.cos(2 * angle), np.sin(2 * angle)]
    given = np.nan_to_num(known["inputs"].values)
    if not np.ptp(given, axis=0).any():
        labels = list(dict.fromkeys(known["condition"].values.tolist()))
        columns = [ds["condition"].values == label for label in labels]
    return np.stack(columns, axis=1).astype(np.float64)


def _fill(known: xr.Dataset, name: str) -> tuple[NDArray[np.bool_], Array]:
    """Return which trials have a variable, and its values, with averages over trials for missing bins.

    A unit or output that was not observed in a recorded bin stays NaN, and the regression leaves it out.
    """
    mask = known["mask"].values[..., np.newaxis]
    values = np.where(mask, known[name].values, np.nan).astype(np.float64)
    has = np.isfinite(values).any(axis=(1, 2))
    values, mask = values[has], mask[has]
    seen = np.isfinite(values)
    mean = np.where(seen, values, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.asarray(has), np.where(seen | mask, values, mean)


def _list_folds(known: xr.Dataset, shown: xr.Dataset) -> list[NDArray[np.intp]]:
    """Return rows of known trials to leave out together: trials or whole conditions, as in the test."""
    labels = known["condition"].values
    if set(shown["condition"].values.tolist()) <= set(labels.tolist()):
        groups = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
        order = np.concatenate(groups)  # some of each condition in every fold
        n = min(N_FOLDS, len(order))
        return [order[i::n] for i in range(n)]
    known_labels = list(dict.fromkeys(labels.tolist()))
    n = min(N_FOLDS, len(known_labels))
    return [np.flatnonzero(np.isin(labels, known_labels[i::n])) for i in range(n)]


def _use_wiener(trials: Trials) -> Predicted:
    """Decode outputs from the neurons, now and before."""
    zero = {ds: np.zeros(1) for ds in ("known", "shown")}
    return {"outputs": _decode(trials, neurons=zero, outputs=np.zeros(1))}


def _use_residuals(trials: Trials) -> Predicted:
    """Decode deviations of trials from the average of their condition, and add them to the average."""
    neurons, outputs = {}, {}
    for key, ds in (("known", trials.known), ("shown", trials.shown)):
        expected = average_known(trials.known, ds)
        neurons[key], outputs[key] = expected["rates"].values, expected["outputs"].values
        seen = expected["mask"].values[..., np.newaxis]
        outputs[key] = np.where(seen, outputs[key], np.nan)
    residual = _decode(trials, neurons=neurons, outputs=outputs["known"])
    return {"outputs": outputs["shown"] + residual}


def _decode(trials: Trials, *, neurons: Mapping[str, Array], outputs: Array) -> Array:
    """Decode outputs from lagged rates, after subtracting the expectations of both.

    Parameters
    ----------
    trials
        Known and shown trials.
    neurons
        Expected rates of ``known`` and ``shown``.
    outputs
        Expected outputs of the known trials.
    """
    known, shown = trials.known, trials.shown
    scale = known["rate_scale"].values
    rates = {
        key: np.nan_to_num((_impute(ds, known) - neurons[key]) / scale)
        for key, ds in (("known", known), ("shown", shown))
    }
    if len(scale) > MAX_SEEN:
        axes, _ = compute_principal_components(rates["known"][known["mask"].values], MAX_SEEN)
        rates = {key: values @ axes for key, values in rates.items()}
    step = max(1, round(LAG / known.attrs["bin_size"]))
    target = known["outputs"].values - outputs
    counted = known["mask"].values & np.isfinite(target).any(axis=2)

    def list_samples() -> Iterator[tuple[Array, Array]]:
        for rows in _list_folds(known, shown):
            chosen = counted[rows]
            if chosen.any():
                yield _lag(rates["known"][rows], step)[chosen], target[rows][chosen]

    ridge = fit_ridge(list_samples())
    return np.stack([ridge.predict(_lag(one[np.newaxis], step)[0]) for one in rates["shown"]])


def _impute(ds: xr.Dataset, known: xr.Dataset) -> Array:
    """Return the rates of all neurons, with its mean in the known trials for each that was not observed."""
    rates = ds["rates"].values
    lacks = ds["mask"].values[..., np.newaxis] & np.isnan(rates)
    if not lacks.any():
        return np.asarray(rates)
    return np.where(lacks, average_rows(known["rates"].values[known["mask"].values]), rates)


def _lag(rates: Array, step: int) -> Array:
    """Return the rates of each bin and of earlier bins; the first bin replaces those before the trial."""
    bins = np.arange(rates.shape[1])[:, np.newaxis] - step * np.arange(N_LAGS)
    return rates[:, bins.clip(0)].reshape(*rates.shape[:2], -1)


def _use_sampled(trials: Trials) -> Predicted:
    """Regress unsampled on sampled neurons in the same bin, with weights of low rank."""
    known, shown = trials.known, trials.shown
    sampled = known["sampled"].values
    rates = np.full(shown["rates"].shape, np.nan)
    if sampled.any() and not sampled.all():
        seen, values, mask = _impute(known, known), known["rates"].values, known["mask"].values
        folds = [
            (seen[rows][mask[rows]][:, sampled], values[rows][mask[rows]][:, ~sampled])
            for rows in _list_folds(known, shown)
        ]
        ridge = fit_ridge(folds, max_rank=MAX_RANK)
        rates[..., ~sampled] = ridge.predict(np.nan_to_num(_impute(shown, known)[..., sampled]))
    return {"rates": rates}


def _use_untrained(trials: Trials) -> Predicted:
    """Fit readouts of a random network that gets the same inputs."""
    known, shown = trials.known, trials.shown
    inputs = [np.nan_to_num(ds["inputs"].values).astype(np.float64) for ds in (known, shown)]
    alone, which = np.unique(np.concatenate(inputs), axis=0, return_inverse=True)  # of each condition once
    hidden = run_untrained(alone, n_hidden=trials.n_hidden, bin_size=known.attrs["bin_size"])
    rows = np.split(which.ravel(), [len(inputs[0])])
    found: dict[str, Array] = {}
    for name in ("outputs", "rates"):
        counted = known["mask"].values & np.isfinite(known[name].values).any(axis=2)
        samples = [
            (hidden[rows[0][part]][counted[part]], known[name].values[part][counted[part]])
            for part in _list_folds(known, shown)
            if counted[part].any()
        ]
        found[name] = fit_ridge(samples).predict(hidden[rows[1]])
    return found | {"hidden": hidden[rows[1]]}


def run_untrained(inputs: Array, *, n_hidden: int, bin_size: float, seed: int = 0) -> Array:
    """Return the rates of a random network, dx/dt = (-x + W tanh(x) + W_in u) / τ, from rest.

    Parameters
    ----------
    inputs
        Inputs, shape (n_trials, n_time, n_inputs).
    n_hidden
        Number of hidden units. W has a spectral radius of about 0.5 and τ is 0.1 s, as for a network before
        training.
    bin_size
        Width of a time bin [s].
    seed
        Seed of the weights.

    Returns
    -------
    ndarray
        Shape (n_trials, n_time, n_hidden).

    References
    ----------
    .. [1] Jaeger 2001, GMD Report 148, "The echo state approach to analysing and training recurrent neural
       networks".
    """
    rng = np.random.default_rng(seed)
    recurrent = UNTRAINED_GAIN / np.sqrt(n_hidden) * rng.standard_normal((n_hidden, n_hidden))
    entry = rng.standard_normal((inputs.shape[2], n_hidden)) / np.sqrt(inputs.shape[2])
    alpha = 1 - np.exp(-bin_size / UNTRAINED_TAU)
    state = np.zeros((len(inputs), n_hidden))
    rates = np.empty((*inputs.shape[:2], n_hidden))
    for step in range(inputs.shape[1]):
        state += alpha * (np.tanh(state) @ recurrent.T + inputs[:, step] @ entry - state)
        rates[:, step] = np.tanh(state)
    return rates


AVERAGE = "condition average"
GATED = "gated recurrent unit"
"""Not one of the baselines, since it must be trained; see :func:`nwbrnn.job.predict_gated`."""
SEED_MEAN = "mean of the seeds"
"""Not one of them either, since it needs several networks; see :func:`nwbrnn.mechanism.predict_mean`."""
BASELINES: tuple[Baseline, ...] = (
    Baseline(AVERAGE, "average of the known trials of the same condition", _use_average),
    Baseline(
        "ridge on the task",
        "ridge regression of each bin on two harmonics of the direction, or on other inputs or conditions",
        _use_task,
    ),
    Baseline(
        "untrained network",
        "ridge readout of a random network with the same inputs and the same number of hidden units",
        _use_untrained,
    ),
    Baseline(
        "Wiener filter",
        "ridge regression of the outputs on all neurons, in the same bin and in nine earlier steps of 50 ms",
        _use_wiener,
        sees="neurons",
    ),
    Baseline(
        "condition average + Wiener filter",
        "condition average, plus a Wiener filter from the neurons' deviations from their averages",
        _use_residuals,
        sees="neurons",
    ),
    Baseline(
        "reduced-rank regression",
        "low-rank regression of the unsampled neurons on the sampled neurons in the same bin",
        _use_sampled,
        sees="sampled neurons",
    ),
)


def get_baseline(name: str) -> Baseline | None:
    """Return a baseline by name; ``None`` for another model."""
    return next((one for one in BASELINES if one.name == name), None)
