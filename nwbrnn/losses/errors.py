"""Errors between prediction and target. Scaled so that predicting the target's mean costs 1."""

import torch
from torch import Tensor


def squared_error(predicted: Tensor, target: Tensor, *, mask: Tensor) -> Tensor:
    """Mean squared error over the variance of the target: 1 - R², variance-weighted.

    Parameters
    ----------
    predicted
        Shape (n_trials, n_time, n_channels).
    target
        Same shape. What is outside the mask may have any finite value.
    mask
        True where a bin counts, shape (n_trials, n_time).

    Returns
    -------
    Tensor
        Scalar [1], no factor 1/2. The variance is about each channel's own mean, summed over channels.

    Raises
    ------
    ValueError
        If shapes differ, or the target does not vary.
    """
    _check_shapes(predicted, target, mask)
    # products with 0 and 1 instead of target[mask]: gathering is slower than the time loop
    weight = mask[..., None].to(target.dtype)
    mean = (target * weight).sum(dim=(0, 1)) / weight.sum()
    total = ((target - mean) * weight).square().sum()
    if not total > 0:
        raise ValueError("target: expected values that vary, but they are constant inside the mask")
    return ((predicted - target) * weight).square().sum() / total


def poisson_error(predicted: Tensor, counts: Tensor, *, mask: Tensor) -> Tensor:
    """Poisson deviance of spike counts over that of a constant rate: 1 - pseudo-R².

    Parameters
    ----------
    predicted
        Expected spikes per bin, positive, shape (n_trials, n_time, n_units).
    counts
        Spikes per bin; averages over trials are allowed; same shape.
    mask
        True where a bin counts, shape (n_trials, n_time).

    Returns
    -------
    Tensor
        Scalar [1]: Σ (λ - k + k log(k/λ)) for λ = predicted, over the same for each unit's mean count.

    Raises
    ------
    ValueError
        If shapes differ, or the counts do not vary.

    References
    ----------
    .. [1] Cameron & Windmeijer 1997, J. Econometrics, doi:10.1016/S0304-4076(96)01818-0.
    """
    _check_shapes(predicted, counts, mask)
    counted = counts[mask]
    null = _deviance(counted.mean(dim=0).expand_as(counted), counted)
    if not null > 0:
        raise ValueError("counts: expected values that vary, but they are constant inside the mask")
    return _deviance(predicted[mask], counted) / null


def _deviance(expected: Tensor, counts: Tensor) -> Tensor:
    """Return half the Poisson deviance, with 0 log 0 = 0."""
    return (expected - counts + torch.xlogy(counts, counts) - torch.xlogy(counts, expected)).sum()


def _check_shapes(predicted: Tensor, target: Tensor, mask: Tensor) -> None:
    if predicted.shape != target.shape or mask.shape != target.shape[:2]:
        raise ValueError(
            f"expected equal shapes, but got predicted {tuple(predicted.shape)}, "
            f"target {tuple(target.shape)} and mask {tuple(mask.shape)}"
        )
