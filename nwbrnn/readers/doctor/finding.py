"""What a check reports, and how checks are run."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwbrnn.html_repr import format_table, format_text

BLOCK = 1 << 20
"""How many values are held in memory at once."""


@dataclass(frozen=True)
class Finding:
    """Something in a file that is wrong, or that a reader has to know.

    Attributes
    ----------
    rule
        Name of the check, such as ``repeated_timestamps``.
    object
        Path of the object in the file, such as ``acquisition/EMG``; ``/`` for the file itself.
    problem
        What was found, with numbers: how many, and where first.
    remedy
        What to do about it.
    biases
        Whether a fit to this object would be wrong or refused; otherwise nwbrnn copes with it.
    """

    rule: str
    object: str
    problem: str
    remedy: str
    biases: bool


class Findings(tuple[Finding, ...]):
    """All findings of a file, a row each in a notebook."""

    __slots__ = ()

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row for each finding."""
        return pd.DataFrame([asdict(one) for one in self], columns=[field.name for field in fields(Finding)])

    def _repr_html_(self) -> str:
        if not self:
            return format_text("nwbrnn found nothing that would bias a fit.")
        rows = [(one.object, "yes" if one.biases else "no", one.problem, one.remedy) for one in self]
        return format_table(("object", "biases a fit", "problem", "remedy"), rows)


@dataclass
class Tally:
    """How often something was met, and the number of the first."""

    count: int = 0
    first: int = -1

    def add(self, hits: NDArray[np.bool_], offset: int = 0) -> None:
        """Count the hits of a block that begins at ``offset``."""
        count = int(np.count_nonzero(hits))
        if count and not self.count:
            self.first = offset + int(np.argmax(hits))
        self.count += count


def run_checks(module: ModuleType, subject: Any) -> Iterator[Finding]:
    """Yield what the functions ``check_...`` of a module find; the rule is the rest of the name."""
    for name, check in vars(module).items():
        if name.startswith("check_"):
            yield from (replace(finding, rule=name.removeprefix("check_")) for finding in check(subject))


def bias(where: str, problem: str, remedy: str) -> Finding:
    """Return a finding that would bias a fit."""
    return Finding("", where, problem, remedy, biases=True)


def note(where: str, problem: str, remedy: str) -> Finding:
    """Return a finding that would not bias a fit."""
    return Finding("", where, problem, remedy, biases=False)
