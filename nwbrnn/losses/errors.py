"""Errors between prediction and target, scaled so that predicting the mean of the target costs 1."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwbrnn.buffers import allocate_like


def squared_error(
    predicted: Tensor, target: Tensor, *, weight: Tensor, total: Tensor | None = None
) -> Tensor:
    """Mean squared error divided by the variance of the target: 1 - R², variance-weighted.

    Parameters
    ----------
    predicted
        Predicted values, shape (n_trials, n_time, n_channels).
    target
        Target values, same shape; any finite value is allowed where the weight is 0.
    weight
        Weight of each value, shape (n_trials, n_time, n_channels) or (n_trials, n_time, 1): a mask of 0 and
        1 times the importance of the channel.
    total
        The result of :func:`compute_variation` for this target and weight; computed if not given.

    Returns
    -------
    Tensor
        Scalar [1], without a factor of 1/2. The variance is about each channel's own mean, summed over
        channels.

    Raises
    ------
    ValueError
        If shapes differ, or the target does not vary.
    """
    _check_shapes(predicted, target, weight)
    if total is None:
        total = compute_variation(target, weight=weight)
    squares: Tensor = _WeightedSquares.apply(predicted, target, weight)  # type: ignore[no-untyped-call]
    return squares / total


def compute_variation(target: Tensor, *, weight: Tensor) -> Tensor:
    """Return the weighted sum of squares about each channel's mean, summed over channels.

    Raises
    ------
    ValueError
        If the sum is 0.
    """
    total = ((target - _compute_mean(target, weight)).square() * weight).sum()
    if not total > 0:
        raise ValueError("target: expected values that vary, but they are constant inside the mask")
    return total


class _WeightedSquares(torch.autograd.Function):
    """Σ w (p - y)² with one new tensor per direction, since creating tensors costs more than the sums."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        difference = torch.sub(predicted, target, out=_allocate_like(predicted))
        root = None if bool((weight == 1).all()) else weight.sqrt()
        if root is not None:
            difference.mul_(root)
        ctx.save_for_backward(difference, root)
        squares: Tensor = torch.linalg.vector_norm(difference).square()
        return squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        difference, root = ctx.saved_tensors
        grad = torch.mul(difference, 2 * gradient, out=_allocate_like(difference))
        return grad if root is None else grad.mul_(root), None, None


def _allocate_like(tensor: Tensor) -> Tensor:
    """Return a tensor of any values in the same layout; see :mod:`nwbrnn.buffers`."""
    if tensor.device.type != "cpu" or tensor.dtype == torch.bfloat16:
        return torch.empty_like(tensor)
    return torch.from_numpy(allocate_like(tensor.detach().numpy()))


def poisson_error(
    predicted: Tensor, counts: Tensor, *, weight: Tensor, total: Tensor | None = None
) -> Tensor:
    """Poisson deviance of spike counts divided by that of a constant rate: 1 - pseudo-R².

    Parameters
    ----------
    predicted
        Expected spikes per bin, positive, shape (n_trials, n_time, n_units).
    counts
        Spikes per bin; averages over trials are allowed; same shape.
    weight
        Weight of each value, shape (n_trials, n_time, n_units) or (n_trials, n_time, 1).
    total
        The result of :func:`compute_null_deviance` for these counts and weight; computed if not given.

    Returns
    -------
    Tensor
        Scalar [1]: Σ (λ - k + k log(k/λ)) for λ = predicted, divided by the same for each unit's mean count.

    Raises
    ------
    ValueError
        If shapes differ, or the counts do not vary.

    References
    ----------
    .. [1] Cameron & Windmeijer 1997, J. Econometrics, doi:10.1016/S0304-4076(96)01818-0.
    """
    _check_shapes(predicted, counts, weight)
    if total is None:
        total = compute_null_deviance(counts, weight=weight)
    return _deviance(predicted, counts, weight) / total


def compute_null_deviance(counts: Tensor, *, weight: Tensor) -> Tensor:
    """Return half the weighted Poisson deviance of each unit's mean count, summed over units.

    Raises
    ------
    ValueError
        If it is 0.
    """
    total = _deviance(_compute_mean(counts, weight), counts, weight)
    if not total > torch.finfo(counts.dtype).eps * weight.expand_as(counts).sum():
        raise ValueError("counts: expected values that vary, but they are constant inside the mask")
    return total


def _compute_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of each channel, shape (n_channels,); 0 for channels without weight."""
    counted = weight.expand_as(values).sum(dim=(0, 1))
    return (values * weight).sum(dim=(0, 1)) / counted.clamp(min=torch.finfo(values.dtype).tiny)


def _deviance(expected: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
    """Return half the Poisson deviance, with 0 log 0 = 0, skipping values of weight 0."""
    # if the mean is 0, so are all counts; where the weight is 0, the prediction may be anything
    safe = torch.where(weight > 0, expected, 1.0).clamp(min=torch.finfo(counts.dtype).tiny)
    terms = safe - counts + torch.xlogy(counts, counts) - torch.xlogy(counts, safe)
    return (terms * weight).sum()


def _check_shapes(predicted: Tensor, target: Tensor, weight: Tensor) -> None:
    suits = weight.shape[:2] == target.shape[:2] and weight.shape[2:] in (target.shape[2:], (1,))
    if predicted.shape != target.shape or not suits:
        raise ValueError(
            f"expected equal shapes, but got predicted {tuple(predicted.shape)}, "
            f"target {tuple(target.shape)} and weight {tuple(weight.shape)}"
        )
