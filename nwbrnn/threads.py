"""How many threads the numerical libraries use: one, unless the user has chosen a number.

The matrices here have at most a few hundred rows. Threads that share such a product wait for one another
longer than they compute, above all if another process runs (docs/performance.md).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""If one of these is set, the libraries follow it, and nwbrnn changes nothing."""


@contextmanager
def limit_threads() -> Iterator[None]:
    """Use one thread for linear algebra and OpenMP in a block, or in a function that it decorates."""
    if any(os.environ.get(name) for name in VARIABLES):
        yield
        return
    with threadpool_limits(limits=1):
        yield
