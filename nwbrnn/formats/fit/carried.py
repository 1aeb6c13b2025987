"""Copy session, subject, fitted units with spikes, and trials from the source of a fit to a new file."""

import uuid
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import DynamicTable, VectorData, VectorIndex
from hdmf.data_utils import GenericDataChunkIterator
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from nwbrnn.formats.fit.encode import Rows
from nwbrnn.formats.tables import list_single, look_up, to_plain

BLOCK = 1 << 20  # number of spikes to hold in memory at once

_CARRIED = (
    "session_start_time", "timestamps_reference_time", "session_id", "experimenter", "experiment_description",
    "institution", "lab", "keywords", "related_publications", "protocol", "data_collection", "surgery",
    "virus", "pharmacology", "slices", "stimulus_notes",
)  # fmt: skip


class Original(NamedTuple):
    """A file from which another is derived."""

    identifier: str
    object_id: str
    subject: str
    description: str


def identify_original(nwbfile: NWBFile) -> Original:
    """Return the identity of a file, and its subject and session."""
    subject = "" if nwbfile.subject is None else str(nwbfile.subject.subject_id)
    description = str(nwbfile.session_description)
    return Original(str(nwbfile.identifier), str(nwbfile.object_id), subject, description)


def create_derived(originals: Sequence[Original], original: NWBFile) -> NWBFile:
    """Return a new file with session and subject of another one, a new identity, and a note on its origin.

    ``originals`` are all files from which it is derived, and ``original`` is the first of them. The subject
    is left out if they have several.
    """
    carried = {name: _detach(getattr(original, name)) for name in _CARRIED}
    subject = None
    if original.subject is not None and len({one.subject for one in originals}) == 1:
        fields = {one["name"]: getattr(original.subject, one["name"]) for one in Subject.get_fields_conf()}
        subject = Subject(**{name: value for name, value in fields.items() if value})
    related = [
        f"Derived from the NWB file {one.identifier} (object id {one.object_id})." for one in originals
    ]
    sessions = "; ".join(dict.fromkeys(one.description for one in originals))
    return NWBFile(
        session_description=f"Fit of a recurrent network to: {sessions}",
        identifier=str(uuid.uuid4()),
        was_generated_by=[("nwbrnn", version("nwbrnn"))],
        subject=subject,
        notes="\n".join(text for text in (original.notes, *related) if text),
        **{name: value for name, value in carried.items() if value is not None},
    )


def _detach(value: Any) -> Any:
    """Return a value that does not depend on the open file."""
    return [str(v) for v in value[:]] if hasattr(value, "dtype") or isinstance(value, tuple) else value


def carry_units(nwbfile: NWBFile, original: Units, rows: NDArray[np.integer], *, as_zarr: bool) -> Rows:
    """Add some units of another file: their plain columns, spike times and observation intervals.

    Spike times are copied in blocks while the new file is written, so the other file must stay open until
    then. Zarr compresses them by default.
    """
    columns = [
        VectorData(name="source_row", description="row in the units table of the source", data=rows.tolist()),
        *(column for column in _carry_columns(original, rows.tolist()) if column.name != "source_row"),
    ]
    for name, width in (("spike_times", 0), ("obs_intervals", 2)):
        if name in original.colnames:
            columns += _carry_ragged(original, name, rows, width=width, wrap=not as_zarr)
    nwbfile.units = Units(
        name="units",
        description="the units of the fit, as they are in the source",
        columns=columns,
        id=np.asarray(original.id[:])[rows].tolist(),
        resolution=original.resolution,
    )
    return Rows(nwbfile.units, np.arange(len(rows)))


def carry_trials(nwbfile: NWBFile, original: TimeIntervals, rows: NDArray[np.integer]) -> Rows:
    """Add the whole trial table of another file, so that its rows keep their numbers."""
    table = TimeIntervals(
        name=original.name,
        description=original.description,
        columns=_carry_columns(original, slice(None)),
        id=np.asarray(original.id[:]).tolist(),
    )
    if original.name == "trials":
        nwbfile.trials = table
    else:
        nwbfile.add_time_intervals(table)
    return Rows(table, rows)


def _carry_columns(table: DynamicTable, rows: Any) -> list[VectorData]:
    """Return the columns with a number, boolean or text in each row; enumerations are decoded."""
    carried = []
    for column in list_single(table):
        values = look_up(column)[rows]
        plain = to_plain(values) if values.ndim == 1 or values.dtype.kind in "iufb" else None
        if plain is not None:
            text = column.description
            carried.append(VectorData(name=column.name, description=text, data=plain.tolist()))
    return carried


def _carry_ragged(
    table: DynamicTable, name: str, rows: NDArray[np.integer], *, width: int, wrap: bool
) -> Sequence[VectorData]:
    """Return some rows of a ragged column of floats, with their index."""
    index = table[name]
    ends = np.asarray(index.data[:], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    values = _Gathered(index.target.data, np.stack([starts[rows], ends[rows]], axis=1), width=width)
    data: Any = np.zeros((0, width) if width else 0)  # an empty iterator cannot be written
    if values.n_values:
        data = H5DataIO(values, compression="gzip", shuffle=True) if wrap else values
    column = VectorData(name=name, description=index.target.description, data=data)
    counts = np.cumsum(ends[rows] - starts[rows])
    # the index first: hdmf forgets the column where it meets one that is still to be read
    return [VectorIndex(name=f"{name}_index", target=column, data=counts.astype(np.uint64)), column]


class _Gathered(GenericDataChunkIterator):  # type: ignore[misc]
    """Consecutive stretches of an array, read in blocks while they are written."""

    def __init__(self, data: Any, stretches: NDArray[np.int64], *, width: int) -> None:
        self._data, self._stretches, self._width = data, stretches, width
        self._ends = np.cumsum(stretches[:, 1] - stretches[:, 0])
        self.n_values = int(self._ends[-1]) if len(self._ends) else 0
        size = max(min(self.n_values, BLOCK), 1)
        shape = (size, width) if width else (size,)
        super().__init__(buffer_shape=shape, chunk_shape=(max(min(size, BLOCK // 16), 1), *shape[1:]))

    def __len__(self) -> int:
        return self.n_values

    def _get_maxshape(self) -> tuple[int, ...]:
        return (self.n_values, self._width) if self._width else (self.n_values,)

    def _get_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def _get_data(self, selection: tuple[slice, ...]) -> NDArray[np.float64]:
        start, stop = selection[0].start, selection[0].stop
        parts = []
        first = int(np.searchsorted(self._ends, start, side="right"))
        for i in range(first, len(self._ends)):
            before = int(self._ends[i - 1]) if i else 0
            if before >= stop:
                break
            low, high = max(start, before) - before, min(stop, int(self._ends[i])) - before
            offset = int(self._stretches[i, 0])
            parts.append(np.asarray(self._data[offset + low : offset + high], dtype=np.float64))
        values = np.concatenate(parts)
        return np.asarray(values[:, selection[1]] if self._width else values)
