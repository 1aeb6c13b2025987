"""The nonlinearities of the compiled loops, row by row."""

import math
from typing import Any

from numba import types
from numba.extending import overload

from nwbrnn.models.products import FLOAT_OPERATIONS, compile_function

TANH, SOFTPLUS, SOC = 0, 1, 2
KINDS = {"tanh": TANH, "softplus": SOFTPLUS, "soc": SOC}


def _tanh(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Stand in for the function that is chosen when a loop is compiled."""
    return math.tanh(x)


@overload(_tanh, jit_options={"fastmath": FLOAT_OPERATIONS})
def _choose_tanh(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Use the exact function in float64, and in float32 a rational one that becomes vector instructions."""
    if x != types.float32:
        return lambda x: math.tanh(x)  # noqa: PLW0108

    def rational(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # coefficients of the Eigen library, Eigen/src/Core/MathFunctionsImpl.h; within 3e-7 of tanh
        f = types.float32
        c = min(max(x, f(-7.90531110763549805)), f(7.90531110763549805))
        s = c * c
        p = f(-2.76076847742355e-16) * s + f(2.00018790482477e-13)
        p = p * s + f(-8.60467152213735e-11)
        p = p * s + f(5.12229709037114e-08)
        p = p * s + f(1.48572235717979e-05)
        p = p * s + f(6.37261928875436e-04)
        p = p * s + f(4.89352455891786e-03)
        q = f(1.19825839466702e-06) * s + f(1.18534705686654e-04)
        q = q * s + f(2.26843463243900e-03)
        q = q * s + f(4.89352518554385e-03)
        return c * p / q

    return rational


@compile_function
def activate(x: Any, r: Any, kind: int) -> None:
    """Write the rates of the states of one trial, both (n_hidden,)."""
    four = x.dtype.type(4)
    if kind == TANH:
        for i in range(x.shape[0]):
            r[i] = _tanh(x[i])
    elif kind == SOC:
        for i in range(x.shape[0]):
            r[i] = _tanh(x[i]) if x[i] < 0 else four * _tanh(x[i] / four)
    else:
        for i in range(x.shape[0]):
            r[i] = max(x[i], 0) + math.log1p(math.exp(-abs(x[i])))


@compile_function
def multiply_by_slopes(h: Any, r: Any, kind: int) -> None:
    """Multiply (n_hidden,) in place by dr/dx, which follows from the rates alone."""
    one, quarter = h.dtype.type(1), h.dtype.type(0.25)
    if kind == TANH:
        for i in range(h.shape[0]):
            h[i] *= one - r[i] * r[i]
    elif kind == SOC:
        for i in range(h.shape[0]):
            s = r[i] if r[i] < 0 else quarter * r[i]
            h[i] *= one - s * s
    else:
        for i in range(h.shape[0]):
            h[i] *= -math.expm1(-r[i])
