"""The main job: Dataset in, fitted and scored student out."""

from collections.abc import Callable
from typing import Any

import xarray as xr

from nwbrnn.config import FitConfig, parse_settings
from nwbrnn.evaluation import evaluate
from nwbrnn.preprocessing import prepare
from nwbrnn.result import FitResult
from nwbrnn.training import fit_rate_readout, predict, train


def fit(
    ds: xr.Dataset,
    config: FitConfig | None = None,
    *,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    **settings: Any,
) -> FitResult:
    """Fit a recurrent network to the outputs and the sampled neurons of a Dataset.

    Parameters
    ----------
    ds
        What :func:`nwbrnn.read_nwb` or :func:`nwbrnn.simulate_teacher` returned, or any valid Dataset.
    config
        Settings made before.
    progress
        Called after each epoch with its number and its losses by name.
    **settings
        The fields of :class:`nwbrnn.FitConfig`, over those of ``config``, such as ``sampled`` and
        ``dynamics_weight``.

    Returns
    -------
    FitResult
        The student, its predictions for all trials, and its scores on the test trials.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    ConfigError
        If a setting is unknown or does not fit the data.
    TrainingDivergedError
        If the loss stops being finite.
    """
    given = (config or FitConfig()).model_dump() | settings
    config = parse_settings(FitConfig, given, source="fit")
    recorded = prepare(ds, config)
    weights, history = train(recorded, config, progress=progress)
    weights |= fit_rate_readout(recorded, weights, config)
    predicted = predict(recorded, weights, config)
    return FitResult(
        recorded=recorded,
        predicted=predicted,
        weights=weights,
        history=history,
        scores=evaluate(recorded, predicted),
        config=config,
    )
