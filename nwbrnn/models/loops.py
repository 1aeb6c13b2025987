"""The time loop and its gradient on one CPU thread, compiled.

At these sizes, a library spends as much time on calls and packing as on arithmetic. Here, the matrix stays in
the processor's cache between steps, and element-wise operations become vector instructions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwbrnn.errors import ShapeError
from nwbrnn.models.activations import KINDS, TANH
from nwbrnn.models.activations import activate as _activate
from nwbrnn.models.activations import multiply_by_slopes as _multiply_by_slopes
from nwbrnn.models.products import compile_function
from nwbrnn.models.products import multiply as _multiply
from nwbrnn.models.products import multiply_once as _multiply_once
from nwbrnn.models.products import pack as _pack
from nwbrnn.models.products import pad as _pad
from nwbrnn.models.products import sum_products as _sum_products

__all__ = [
    "KINDS", "TANH", "expect_shapes", "get_sizes", "read", "run_backward", "run_forward",
    "run_observed_backward", "run_observed_forward", "sum_products",
]  # fmt: skip

_compile = compile_function


@_compile
def _activate_all(states: Any, rates: Any, kind: int) -> None:
    """Write the rates of states, both (n_trials, n_hidden)."""
    for b in range(states.shape[0]):
        _activate(states[b], rates[b], kind)


Array = NDArray[np.floating]
Seen = tuple[Array, Array, NDArray[np.int64]]
"""Observed rates and how much each counts, shapes (n_bins, n_trials, n_observed); their hidden units."""
Buffers = tuple[Array, Array, Array, Array]


def run_forward(drive: Array, transposed: Array, keep: Array, kind: int, states: Array, rates: Array) -> None:
    """Run the network; see :func:`nwbrnn.models.scan.scan`.

    Parameters
    ----------
    drive
        Shape (n_time, n_trials, n_hidden).
    transposed
        The weights, presynaptic units first, shape (n_hidden, n_hidden).
    keep
        Fraction of its state that each unit keeps, shape (n_hidden,).
    kind
        One of ``KINDS``.
    states
        Buffer whose first entry is the initial state, shape (n_time + 1, n_trials, n_hidden) to keep all
        states, or (1, n_trials, n_hidden) to keep only the last.
    rates
        Filled with rates, shape (n_time + 1, n_trials, n_hidden), beginning with those of the initial state.

    Raises
    ------
    ShapeError
        If arrays do not fit together, since the compiled loop would read and write beyond them.
    """
    n_time, n_trials, n_hidden = get_sizes("drive", drive)
    n_kept = 1 if states.shape[:1] == (1,) else n_time + 1
    expect_shapes(
        {
            "weights": (transposed, (n_hidden, n_hidden)),
            "keep": (keep, (n_hidden,)),
            "states": (states, (n_kept, n_trials, n_hidden)),
            "rates": (rates, (n_time + 1, n_trials, n_hidden)),
        }
    )
    _expect_alike(drive, transposed, keep, states, rates)
    _run_forward(drive, transposed, keep, kind, states, rates)


@_compile
def _copy(values: Any, out: Any) -> None:
    """Copy (n_rows, n); an assignment to a slice would take seconds to compile."""
    for b in range(values.shape[0]):
        for i in range(values.shape[1]):
            out[b, i] = values[b, i]


@_compile
def _create_product(steps: Any) -> Any:
    """Return a buffer for the products of one of the steps, (n_steps, n_trials, n)."""
    return np.zeros((steps.shape[1], _pad(steps.shape[2], steps.itemsize)), steps.dtype)


@_compile
def _step(t: int, drive: Any, recurrence: Any, kind: int, states: Any, rates: Any) -> None:
    """Write the state after a step and its rates, from the state and the rates before it."""
    panels, keep, product = recurrence
    n_kept = states.shape[0]
    before, now = states[t % n_kept], states[(t + 1) % n_kept]
    _multiply(rates[0], panels, product)
    for b in range(drive.shape[1]):  # row by row, so that a state is still near when its rate is computed
        old, x, u, p = before[b], now[b], drive[t, b], product[b]
        for i in range(x.shape[0]):
            x[i] = keep[i] * old[i] + u[i] + p[i]
        _activate(x, rates[1][b], kind)


@_compile
def _run_forward(drive: Any, transposed: Any, keep: Any, kind: int, states: Any, rates: Any) -> None:
    recurrence = _pack(transposed), keep, _create_product(drive)
    _activate_all(states[0], rates[0], kind)
    for t in range(drive.shape[0]):
        _step(t, drive, recurrence, kind, states, (rates[t], rates[t + 1]))


def run_backward(
    given: tuple[Array, Array], rates: Array, weights: tuple[Array, Array, Array], kind: int, grads: Array
) -> None:
    """Run the adjoint of the network and of its readout backwards.

    Parameters
    ----------
    given
        dL/dr of each step apart from the readout, shape (n_time, n_trials, n_hidden), and dL/dz of each
        output, shape (n_time, n_trials, n_outputs).
    rates
        Rates from :func:`run_forward`.
    weights
        W, columns presynaptic; what a unit keeps; and the readout, shape (n_outputs, n_hidden).
    kind
        As for :func:`run_forward`.
    grads
        Filled with dL/dx, shape (n_time + 1, n_trials, n_hidden), beginning with that of the initial state.

    Raises
    ------
    ShapeError
        As :func:`run_forward`.
    """
    grad_rates, grad_outputs = given
    matrix, keep, readout = weights
    n_time, n_trials, n_hidden = get_sizes("grad_rates", grad_rates)
    n_outputs = get_sizes("grad_outputs", grad_outputs)[2]
    expect_shapes(
        {
            "grad_outputs": (grad_outputs, (n_time, n_trials, n_outputs)),
            "rates": (rates, (n_time + 1, n_trials, n_hidden)),
            "weights": (matrix, (n_hidden, n_hidden)),
            "keep": (keep, (n_hidden,)),
            "readout": (readout, (n_outputs, n_hidden)),
            "grads": (grads, (n_time + 1, n_trials, n_hidden)),
        }
    )
    _expect_alike(grad_rates, grad_outputs, rates, matrix, keep, readout, grads)
    _run_backward(grad_rates, grad_outputs, rates, weights, kind, grads)


@_compile
def _step_back(t: int, given: Any, rates: Any, recurrence: Any, kind: int, grads: Any) -> None:
    """Fill dL/dx of a step, from two parts of dL/dr of it, (n_trials, n_hidden), and dL/dx of the next."""
    panels, keep, product, nothing = recurrence
    is_last = t == len(grads) - 1
    if not is_last:  # else the buffer of the product holds 0
        _multiply(grads[t + 1], panels, product)
    for b in range(grads.shape[1]):
        now, first, second, p = grads[t, b], given[0][b], given[1][b], product[b]
        following = nothing[b] if is_last else grads[t + 1, b]
        for i in range(now.shape[0]):
            now[i] = first[i] + second[i] + p[i]
        _multiply_by_slopes(now, rates[t, b], kind)
        for i in range(now.shape[0]):
            now[i] += keep[i] * following[i]


@_compile
def _run_backward(
    grad_rates: Any, grad_outputs: Any, rates: Any, weights: Any, kind: int, grads: Any
) -> None:
    matrix, keep, readout = weights
    readout_panels = _pack(readout)
    read, nothing = _create_product(grads), _create_product(grads)
    recurrence = _pack(matrix), keep, _create_product(grads), nothing
    for t in range(len(grad_rates), -1, -1):
        if t > 0 and readout.shape[0] > 0:
            _multiply(grad_outputs[t - 1], readout_panels, read)
        given = (grad_rates[t - 1], read) if t > 0 else (nothing, nothing)
        _step_back(t, given, rates, recurrence, kind, grads)


def read(rates: Array, readout: Array) -> Array:
    """Return what a linear readout makes of rates, shape (n_time, n_trials, n_outputs).

    Parameters
    ----------
    rates, readout
        Shapes (n_time, n_trials, n_hidden) and (n_outputs, n_hidden).

    Raises
    ------
    ShapeError
        As :func:`run_forward`.
    """
    n_time, n_trials, n_hidden = get_sizes("rates", rates)
    expect_shapes({"readout": (readout, (*readout.shape[:1], n_hidden))})
    _expect_alike(rates, readout)
    found: Array = _multiply_once(rates.reshape(-1, n_hidden), np.ascontiguousarray(readout.T))
    return found[:, : len(readout)].reshape(n_time, n_trials, len(readout))


def sum_products(left: Array, right: Array) -> Array:
    """Return the sum over steps and trials of the products of all pairs, shape (m, n).

    Parameters
    ----------
    left, right
        Shapes (n_time, n_trials, m) and (n_time, n_trials, n).

    Raises
    ------
    ShapeError
        As :func:`run_forward`.
    """
    n_time, n_trials, m = get_sizes("left", left)
    n = get_sizes("right", right)[2]
    expect_shapes({"right": (right, (n_time, n_trials, n))})
    _expect_alike(left, right)
    return np.ascontiguousarray(_sum_products(left.reshape(-1, m), right.reshape(-1, n))[:, :n])


def run_observed_forward(
    drive: Array, weights: tuple[Array, Array, Array], kind: int, seen: Seen, buffers: Buffers
) -> None:
    """Run the network, and correct its state at the end of each bin; see :mod:`nwbrnn.models.observer`.

    Parameters
    ----------
    drive
        Shape (n_steps, n_trials, n_hidden), with n_steps a multiple of the number of bins.
    weights
        The recurrent weights, presynaptic units first, shape (n_hidden, n_hidden); what a unit keeps, shape
        (n_hidden,); and the gains, observed neurons first, shape (n_observed, n_hidden).
    kind
        One of ``KINDS``.
    seen
        What was observed.
    buffers
        Are filled. The first state is the initial one.

    Raises
    ------
    ShapeError
        If arrays do not fit together: the compiled loop would read and write beyond them.
    """
    n_steps, n_trials, n_hidden = get_sizes("drive", drive)
    n_observed = _expect_seen(seen, n_steps, n_trials, n_hidden)
    transposed, keep, gains = weights
    states, rates, predicted, errors = buffers
    n_bins = len(seen[0])
    n_kept = 1 if states.shape[:1] == (1,) else n_steps + 1
    expect_shapes(
        {
            "weights": (transposed, (n_hidden, n_hidden)),
            "keep": (keep, (n_hidden,)),
            "gains": (gains, (n_observed, n_hidden)),
            "states": (states, (n_kept, n_trials, n_hidden)),
            "rates": (rates, (n_steps + 1, n_trials, n_hidden)),
            "predicted": (predicted, (n_bins, n_trials, n_hidden)),
            "errors": (errors, (n_bins, n_trials, n_observed)),
        }
    )
    _expect_alike(drive, *weights, *seen[:2], *buffers)
    _run_observed_forward(drive, weights, kind, seen, buffers)


@_compile
def _run_observed_forward(drive: Any, weights: Any, kind: int, seen: Any, buffers: Any) -> None:
    transposed, keep, gains = weights
    values, counted, units = seen
    states, rates, predicted, errors = buffers
    n_steps, n_trials, n_hidden = drive.shape
    substeps = n_steps // values.shape[0]
    gain_panels, product = _pack(gains), _create_product(drive)
    recurrence = _pack(transposed), keep, product
    _activate_all(states[0], rates[0], kind)
    for t in range(n_steps):
        now = t // substeps
        is_end = (t + 1) % substeps == 0
        reached = predicted[now] if is_end else rates[t + 1]
        _step(t, drive, recurrence, kind, states, (rates[t], reached))
        if is_end:
            x, e = states[(t + 1) % states.shape[0]], errors[now]
            for b in range(n_trials):
                for j in range(units.shape[0]):
                    e[b, j] = counted[now, b, j] * (values[now, b, j] - reached[b, units[j]])
            _multiply(e, gain_panels, product)
            for b in range(n_trials):
                for i in range(n_hidden):
                    x[b, i] += product[b, i]
                _activate(x[b], rates[t + 1, b], kind)


def run_observed_backward(
    grad_rates: Array,
    grad_predicted: Array,
    weights: tuple[Array, Array, Array],
    kind: int,
    seen: Seen,
    buffers: Buffers,
) -> None:
    """Run the adjoint of the observed network backwards.

    Parameters
    ----------
    grad_rates, grad_predicted
        dL/dr of each step after the correction, shape (n_steps, n_trials, n_hidden), and of each bin before
        it, shape (n_bins, n_trials, n_hidden).
    weights
        W, columns presynaptic; what a unit keeps; and the gains, observed neurons last, shape
        (n_hidden, n_observed).
    kind, seen
        As for :func:`run_observed_forward`.
    buffers
        The rates and the predicted rates of it; then what is filled: dL/dx before the correction, shape
        (n_steps + 1, n_trials, n_hidden), the first that of the initial state, and after it, shape
        (n_bins, n_trials, n_hidden).

    Raises
    ------
    ShapeError
        As :func:`run_observed_forward`.
    """
    n_steps, n_trials, n_hidden = get_sizes("grad_rates", grad_rates)
    n_observed = _expect_seen(seen, n_steps, n_trials, n_hidden)
    matrix, keep, gains = weights
    rates, predicted, grads, after = buffers
    whole, in_bins = (n_steps + 1, n_trials, n_hidden), (len(seen[0]), n_trials, n_hidden)
    expect_shapes(
        {
            "grad_predicted": (grad_predicted, in_bins),
            "weights": (matrix, (n_hidden, n_hidden)),
            "keep": (keep, (n_hidden,)),
            "gains": (gains, (n_hidden, n_observed)),
            "rates": (rates, whole),
            "predicted": (predicted, in_bins),
            "grads": (grads, whole),
            "after": (after, in_bins),
        }
    )
    _expect_alike(grad_rates, grad_predicted, *weights, *seen[:2], *buffers)
    _run_observed_backward(grad_rates, grad_predicted, weights, kind, seen, buffers)


@_compile
def _run_observed_backward(
    grad_rates: Any, grad_predicted: Any, weights: Any, kind: int, seen: Any, buffers: Any
) -> None:
    matrix, keep, gains = weights
    values, counted, units = seen
    rates, predicted, grads, after = buffers
    n_steps, n_trials, n_hidden = grad_rates.shape
    substeps = n_steps // values.shape[0]
    n_observed = units.shape[0]
    gain_panels, backwards = _pack(gains), _create_product(values)
    product, nothing = _create_product(grads), _create_product(grads)
    recurrence = _pack(matrix), keep, product, nothing
    for t in range(n_steps, -1, -1):
        given = (grad_rates[t - 1] if t > 0 else nothing, nothing)
        _step_back(t, given, rates, recurrence, kind, grads)
        if t > 0 and t % substeps == 0:
            bin_, now = t // substeps - 1, grads[t]
            _copy(now, after[bin_])
            _multiply(after[bin_], gain_panels, backwards)
            for b in range(n_trials):
                row, given_row = product[b], grad_predicted[bin_, b]
                for i in range(n_hidden):
                    row[i] = given_row[i]
                for j in range(n_observed):
                    row[units[j]] -= counted[bin_, b, j] * backwards[b, j]
                _multiply_by_slopes(row, predicted[bin_, b], kind)
                for i in range(n_hidden):
                    now[b, i] += row[i]


def _expect_seen(seen: Seen, n_steps: int, n_trials: int, n_hidden: int) -> int:
    """Refuse observations that do not fit a network; return the number of observed neurons."""
    values, counted, units = seen
    n_bins, _, n_observed = get_sizes("observed", values)
    if not n_bins or n_steps % n_bins:
        raise ShapeError(f"observed: expected a bin for each of {n_steps} steps or more, but got {n_bins}")
    expect_shapes(
        {
            "observed": (values, (n_bins, n_trials, n_observed)),
            "counted": (counted, (n_bins, n_trials, n_observed)),
            "units": (units, (n_observed,)),
        }
    )
    is_index = units.dtype == np.int64 and units.flags.c_contiguous
    if not is_index or (units < 0).any() or (units >= n_hidden).any():
        raise ShapeError(f"units: expected numbers of {n_hidden} hidden units, but got {units}")
    return n_observed


def expect_shapes(arrays: Mapping[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Refuse arrays or tensors of other shapes than expected.

    Parameters
    ----------
    arrays
        Array and expected shape by name.

    Raises
    ------
    ShapeError
        If one has another shape.
    """
    for name, (array, shape) in arrays.items():
        if tuple(array.shape) != shape:
            raise ShapeError(f"{name}: expected the shape {shape}, but got {tuple(array.shape)}")


def get_sizes(name: str, array: Any) -> tuple[int, int, int]:
    """Return the shape of an array or tensor that must have three dimensions: time, trials and units."""
    if array.ndim != 3:
        raise ShapeError(f"{name}: expected 3 dimensions, but got the shape {tuple(array.shape)}")
    n_time, n_trials, n_hidden = array.shape
    return n_time, n_trials, n_hidden


def _expect_alike(*arrays: Array) -> None:
    """Refuse arrays unless all are float32 or all are float64, and all are contiguous."""
    dtypes = {array.dtype for array in arrays}
    if len(dtypes) > 1 or arrays[0].dtype not in (np.float32, np.float64):
        found = ", ".join(sorted(map(str, dtypes)))
        raise ShapeError(f"arrays of a network: expected float32 or float64 throughout, but got {found}")
    if not all(array.flags.c_contiguous for array in arrays):
        raise ShapeError("arrays of a network: expected arrays that are contiguous in memory")
