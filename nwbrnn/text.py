"""Texts that come from files and settings, made fit to be shown: on one line, printable, and not endless."""

from collections.abc import Iterable, Sequence

from nwbrnn.addresses import strip_all_secrets

MAX_SHOWN = 300
"""Characters of a value or of another library's message that a message of ours repeats."""


def escape(text: object) -> str:
    r"""Return a text in which control characters, line breaks among them, are written out.

    Names in a file may hold anything. Written to a terminal as they are, they could move the cursor, change
    the title of the window, or make lines that look like ours.

    Examples
    --------
    >>> escape("EMG\x1b[2J\n")
    'EMG\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def show(text: object) -> str:
    """Return a sentence as it may be shown: on one line, printable, and its addresses without secrets."""
    return escape(strip_all_secrets(str(text)))


def shorten(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text of at most so many characters: its beginning and its end, where the reason often stands.

    Examples
    --------
    >>> shorten("0123456789", 7)
    '01...89'
    """
    if len(text) <= limit:
        return text
    kept = limit - 3
    return f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"


def describe(value: object) -> str:
    """Return how Python writes a value, not longer than :data:`MAX_SHOWN`.

    Examples
    --------
    >>> describe(0x10 ** 5000)
    'a whole number of more than 4300 digits'
    """
    try:
        return shorten(repr(value))
    except ValueError:  # Python writes no longer ones
        return "a whole number of more than 4300 digits"
    except RecursionError:
        return "a value that is nested too deeply"


def list_some(items: Iterable[object], *, limit: int = 12) -> str:
    """Return the first few items as text, and how many more there are.

    Examples
    --------
    >>> list_some(range(9), limit=3)
    '0, 1, 2 and 6 more'
    >>> list_some([])
    'none'
    """
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return (", ".join(texts[:limit]) + more) or "none"


def show_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things: the noun is singular for one; without a plural of its own, it takes an s.

    Examples
    --------
    >>> show_count(1, "unit"), show_count(0, "unit"), show_count(2, "stretch", "stretches")
    ('1 unit', '0 units', '2 stretches')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def find_label(labels: Sequence[str], wanted: object) -> str | None:
    """Return the label that is meant, by its text or as the same number.

    Examples
    --------
    >>> find_label(["0", "90"], 90.0), find_label(["0", "up"], "up"), find_label(["0"], "1")
    ('90', 'up', None)
    """
    if str(wanted) in labels:
        return str(wanted)
    number = _read_number(wanted)
    return next((label for label in labels if number is not None and _read_number(label) == number), None)


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return labels in the order of their numbers if all are numbers, else as they are.

    Examples
    --------
    >>> sort_labels(["180", "90", "0"]), sort_labels(["up", "90"])
    (['0', '90', '180'], ['up', '90'])
    """
    numbers = {label: _read_number(label) for label in labels}
    known = {label: number for label, number in numbers.items() if number is not None}
    return list(numbers) if len(known) < len(numbers) else sorted(known, key=lambda label: known[label])


def _read_number(label: object) -> float | None:
    try:
        return float(str(label))
    except ValueError:
        return None
