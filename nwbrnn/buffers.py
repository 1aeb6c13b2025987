"""Memory that a fit uses again in each epoch.

The system clears memory before a process gets it. For the arrays of a training step, this takes up to a fifth
of the step.
"""

import ctypes
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

_free: ContextVar[dict[int, list[NDArray[np.uint8]]] | None] = ContextVar("_free", default=None)
"""Memory that no array uses any more, by its size; ``None`` where it goes back to the system."""

_ALIGNMENT = 64  # bytes, as torch; libraries may round differently at other addresses


@contextmanager
def reuse_memory() -> Iterator[None]:
    """Use the memory of arrays of :func:`allocate` again in a block, as soon as nothing refers to them."""
    token = _free.set({})
    try:
        yield
    finally:
        _free.reset(token)


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.floating]:
    """Return an array of any values.

    NumPy asks the system for large pages, which take less time to begin to use than those of torch.
    """
    free = _free.get()
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if free is None or not size:
        return np.empty(shape, dtype)
    unused = free.setdefault(size, [])
    memory = unused.pop() if unused else np.empty(size + _ALIGNMENT, np.uint8)
    # an object that all arrays and tensors made of it keep alive; views of an array keep only ``memory``
    lease = (ctypes.c_byte * size).from_buffer(memory.data, -memory.ctypes.data % _ALIGNMENT)
    weakref.finalize(lease, unused.append, memory).atexit = False
    made: NDArray[np.floating] = np.frombuffer(memoryview(lease), dtype)
    return made.reshape(shape)


def allocate_like(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return an array of any values whose axes follow one another in memory as those of another do."""
    order = np.argsort([-stride for stride in array.strides], kind="stable")
    made = allocate(tuple(array.shape[axis] for axis in order), array.dtype)
    return made.transpose(np.argsort(order))
