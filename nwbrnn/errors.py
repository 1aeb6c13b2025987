"""The exceptions that nwbrnn raises for faults in a user's file, Dataset or settings.

All messages have the same form: the object, what was expected, what was found, and what to do. A wrong call
inside the numerics raises a plain ``ValueError``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nwbrnn.addresses import strip_all_secrets


class NwbrnnError(Exception):
    """Base class of every error that a user's input can cause.

    Parameters
    ----------
    *lines
        The lines of the message; anything in their addresses that may be secret is removed.

    Examples
    --------
    >>> import nwbrnn
    >>> try:
    ...     nwbrnn.read_nwb(example, outputs="nothing")
    ... except nwbrnn.NwbrnnError as error:
    ...     print(type(error).__name__)
    MissingDataError
    """

    def __init__(self, *lines: object) -> None:
        super().__init__(*(strip_all_secrets(line) if isinstance(line, str) else line for line in lines))

    def __str__(self) -> str:
        """Return the message."""
        return "\n".join(map(str, self.args))


class ReadError(NwbrnnError):
    """A file cannot be turned into a Dataset."""


class UnsupportedFileError(ReadError, ValueError):
    """The file is not NWB, is of an unsupported version, or is damaged."""


class MissingDataError(ReadError, LookupError):
    """The file lacks an object that was asked for or is required."""


class SchemaError(NwbrnnError, ValueError):
    """A Dataset breaks the contract of :mod:`nwbrnn.schema`.

    Parameters
    ----------
    problems
        Every fault found, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = list(problems)
        super().__init__("Dataset breaks the nwbrnn contract: " + "; ".join(self.problems))


class ShapeError(NwbrnnError, ValueError):
    """Arrays of a network have shapes or types that do not fit together."""


class ConfigError(NwbrnnError, ValueError):
    """A setting is out of range or contradicts the data."""


class TrainingDivergedError(NwbrnnError, RuntimeError):
    """A loss term or a gradient stopped being finite.

    Parameters
    ----------
    epoch
        Epoch at which this happened, counted from 0.
    term
        The first quantity that was not finite, such as "loss term 'output'".
    """

    def __init__(self, epoch: int, term: str) -> None:
        self.epoch = epoch
        self.term = term
        super().__init__(
            f"training diverged at epoch {epoch}: {term} is not finite; "
            "use a smaller learning_rate or a smaller max_gradient_norm"
        )


class ExportError(NwbrnnError):
    """Results cannot be written."""


class OutputExistsError(ExportError, FileExistsError):
    """The output file already exists, and overwriting was not requested."""


@contextmanager
def name_file(name: str) -> Iterator[None]:
    """Begin the message of an error of reading in a block with the name of the file, unless it does already.

    Examples
    --------
    >>> with name_file("session.nwb"):
    ...     raise ReadError("acquisition/EMG: it holds no data")
    Traceback (most recent call last):
    nwbrnn.errors.ReadError: session.nwb: acquisition/EMG: it holds no data
    """
    try:
        yield
    except (ReadError, ConfigError) as error:
        first, *others = error.args
        if not str(first).startswith(f"{name}: "):
            error.args = (f"{name}: {first}", *others)
        raise
