"""Units that are the same unit: they share most of their spikes."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nwbrnn.readers.units import SpikeTrains

Ticks = NDArray[np.int64]

_KEPT = 256
_SHARED = 0.5
_MIN_SPIKES = 20
_SHIFT = 100
_FINE = 0.01


def find_duplicates(
    trains: SpikeTrains, *, rows: NDArray[np.int64], width: float
) -> list[tuple[int, int, float]]:
    """Return pairs of units that share more than half of their spikes, to the nanosecond, beyond chance.

    Comparing all pairs would need all spikes in memory. Instead, of each unit those spike times are kept
    whose hash is smallest: units with many spikes in common keep the same ones. Only such pairs are compared
    in full. Spikes given in bins of some width [s] coincide by chance; so the share must exceed half of what
    chance leaves, which is known from one unit shifted by many bins.

    Each pair comes with its share of the spikes of the unit with more of them; the largest share comes first.
    """
    wanted = set(rows.tolist())
    sketches = [
        _hash(_to_ticks(times)) if unit in wanted else np.zeros(0, dtype=np.uint64)
        for unit, times in enumerate(trains.iterate_stored())
    ]
    sizes = np.array([len(sketch) for sketch in sketches])
    if sizes.sum() == 0:
        return []
    codes = np.unique(np.concatenate(sketches), return_inverse=True)[1]
    units = np.repeat(np.arange(len(sketches)), sizes)
    kept = csr_array(
        (np.ones(len(codes), dtype=np.int32), (units, codes)), shape=(len(sizes), int(codes.max()) + 1)
    )
    shared = (kept @ kept.T).tocoo()
    spikes = np.diff(trains.ends, prepend=0)
    one, other = shared.coords
    likely = (one < other) & (shared.data >= 0.5 * _SHARED * np.minimum(sizes[one], sizes[other]))
    likely &= np.minimum(spikes[one], spikes[other]) > _SHARED * np.maximum(spikes[one], spikes[other])
    duplicates = []
    for a in np.unique(one[likely]).tolist():
        ticks = _to_ticks(trains.read(a))
        for b in np.sort(other[likely & (one == a)]).tolist():
            share = _compare(ticks, _to_ticks(trains.read(b)), shift=_SHIFT * (width or _FINE))
            if share is not None:
                duplicates.append((a, b, share))
    return sorted(duplicates, key=lambda pair: -pair[2])


def _compare(one: Ticks, other: Ticks, *, shift: float) -> float | None:
    """Return the share of spikes in common if it is more than half, beyond chance."""
    most = max(len(one), len(other))
    if most < _MIN_SPIKES:
        return None
    share = _count_shared(one, other) / most
    if share <= _SHARED:  # chance can only ask for more
        return None
    chance = _count_shared(one, other + round(shift * 1e9)) / most
    return share if share > chance + _SHARED * (1 - chance) else None


def _count_shared(one: Ticks, other: Ticks) -> int:
    """Return how many times are in both, each ascending."""
    both = np.sort(np.concatenate([one, other]), kind="stable")  # fast, since it merges what ascends
    return int(np.count_nonzero(both[1:] == both[:-1]))


def _to_ticks(times: NDArray[np.float64]) -> Ticks:
    """Return different finite times in whole nanoseconds, ascending."""
    ticks = np.sort(np.rint(times[np.isfinite(times)] * 1e9).astype(np.int64), kind="stable")
    return ticks[np.append(True, np.diff(ticks) > 0)] if len(ticks) else ticks  # np.unique is slow here


def _hash(ticks: Ticks) -> NDArray[np.uint64]:
    """Return the smallest hashes of some times, as many as are kept."""
    code = ticks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    code ^= code >> np.uint64(32)
    return np.partition(code, _KEPT)[:_KEPT] if len(code) > _KEPT else code
