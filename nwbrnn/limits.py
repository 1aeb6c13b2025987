"""All limits on the sizes that a file declares, and on the memory that a request may need.

Time and memory depend on what a file stores and what the user asks for, not on what the file claims. A
recording of ten hours with 1,000 units and 64 channels at 30 kHz stays below all these limits.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psutil

resource: Any
try:
    import resource
except ImportError:  # on Windows
    resource = None

SMALL = 64 << 20
"""Bytes that an array may always have, however little of it is stored."""
MAX_WHOLE_RATIO = 100
"""Bytes per stored byte of an array that is read whole, such as time stamps, which compress much less."""
MAX_RATIO = 1000
"""Bytes per stored byte of an array that is read in blocks; deflate reaches 1,032."""
MAX_CHUNK = 256 << 20
"""Bytes of an unpacked chunk, unless :data:`MAX_WHOLE_RATIO` allows more."""
MAX_PACKED = 1.01
PACKED_EXTRA = 4096
"""Bytes of a compressed chunk per byte of its values, and in addition, if it cannot be compressed."""
MAX_SIZE = 1 << 40
"""Bytes that any array may have; it may have more only if the file holds a fair part of them."""
MAX_COMPRESSION = 10_000

MAX_WIDTH = 8
"""Numbers in each row of a column, which becomes as many columns; wider columns are not read."""
MAX_CONDITIONS = 500
"""Conditions, each of which becomes an input."""
MAX_DEPTH = 100
"""Virtual datasets that refer to one another in a chain; libhdf5 reads them recursively."""
MAX_FIT_TEXT = 100_000_000
"""Bytes of the texts of a coordinate of a stored fit."""


def check_declared(
    name: str,
    shape: Sequence[int],
    itemsize: int,
    *,
    chunk: Sequence[int] | None,
    file_size: int,
    find_stored: Callable[[], int],
) -> None:
    """Refuse, with an OSError, an array that claims more bytes than its file can hold.

    The ``data`` of a series and wide arrays are read in blocks, so they may be sparse. ``chunk`` is the shape
    of the chunks, if there are any. ``find_stored`` returns the stored bytes of the array; it is called only
    if they matter.
    """
    size = math.prod(shape) * itemsize
    if size > max(MAX_SIZE, MAX_COMPRESSION * file_size):
        raise OSError(f"{name} would have {size:.0e} bytes, in a file of {file_size:.0e}")
    is_whole = name.rsplit("/", 1)[-1] != "data" and math.prod(shape[1:]) <= MAX_WIDTH
    unpacked, least = (size, SMALL) if is_whole else (math.prod(chunk or ()) * itemsize, MAX_CHUNK)
    if unpacked > least and not is_written(unpacked, find_stored(), ratio=MAX_WHOLE_RATIO):
        raise OSError(f"{name} would unpack to {unpacked:.0e} bytes, of which the file stores almost nothing")


def is_written(size: int, stored: int, *, ratio: int = MAX_RATIO) -> bool:
    """Return whether the stored bytes of an array can hold all of it."""
    return size <= max(SMALL, ratio * stored)


def limit_unpacked(packed: int) -> int:
    """Return how many bytes a chunk of a given packed size may unpack to."""
    return max(MAX_CHUNK, MAX_WHOLE_RATIO * packed)


def check_unpacked(size: int, *, packed: int) -> None:
    """Refuse, with a ValueError, a chunk that unpacks to far more bytes than are stored."""
    if size > limit_unpacked(packed):
        raise ValueError(f"a chunk of {packed:.0e} bytes would unpack to {size:.0e} or more")


def find_readable(lengths: Iterable[list[int]]) -> list[bool]:
    """Return which columns of text fit into a table, in which every row has the width of the longest.

    ``lengths`` are those of the texts in each column [characters].
    """
    padded = stored = 0
    fits = []
    for column in lengths:
        own = 4 * len(column) * max(column, default=0)
        fits.append(padded + own <= max(SMALL, 16 * (stored + sum(column))))
        stored += sum(column)
        padded += own * fits[-1]
    return fits


def fits_padded(texts: Sequence[str]) -> bool:
    """Return whether texts, many of which may be one stored text, stay small as NumPy strings."""
    return 4 * len(texts) * max(map(len, texts), default=0) <= SMALL


def find_free_memory() -> int:
    """Return how much memory this process may still allocate [bytes]."""
    free = int(psutil.virtual_memory().available)
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free = min(free, most - psutil.Process().memory_info().vms)
    return max(free, 0)


def describe_shortage(needed: int) -> str:
    """Return a part of a message that says how much memory is missing; empty if there is enough."""
    free = find_free_memory()
    return (
        "" if needed <= free else f"about {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free"
    )
