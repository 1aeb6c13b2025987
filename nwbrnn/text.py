"""Make texts from files and settings safe to show: on one line, printable and of limited length."""

from collections.abc import Iterable, Sequence

from nwbrnn.addresses import strip_all_secrets

MAX_SHOWN = 300
"""The largest number of characters of a value, or of another library's message, that our messages quote."""


def escape(text: object) -> str:
    r"""Return a text in which control characters, including line breaks, are escaped.

    Names in a file may hold anything. Written to a terminal unchanged, they could move the cursor, change the
    title of the window, or imitate our own output.

    Examples
    --------
    >>> escape("EMG\x1b[2J\n")
    'EMG\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def show(text: object) -> str:
    """Return a sentence that is safe to show: on one line, printable, and without secrets in addresses."""
    return escape(strip_all_secrets(str(text)))


def shorten(text: str, limit: int = MAX_SHOWN) -> str:
    """Return at most ``limit`` characters of a text: its beginning and its end, which often has the reason.

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
    """Return the ``repr`` of a value, shortened to :data:`MAX_SHOWN` characters.

    Examples
    --------
    >>> describe(0x10 ** 5000)
    'a whole number of more than 4300 digits'
    """
    try:
        return shorten(repr(value))
    except ValueError:  # Python does not convert longer numbers to text
        return "a whole number of more than 4300 digits"
    except RecursionError:
        return "a value that is nested too deeply"


def list_some(items: Iterable[object], *, limit: int = 12) -> str:
    """Return the first few items as text, and the number of the others.

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


def join_words(words: Sequence[str], last: str = " and ") -> str:
    """Return words as a list in a sentence: with commas, and another link before the last.

    Examples
    --------
    >>> join_words(["one", "two", "three"]), join_words(["one"])
    ('one, two and three', 'one')
    """
    return last.join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def show_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the singular for one; ``plural`` defaults to the noun with an s.

    Examples
    --------
    >>> show_count(1, "unit"), show_count(0, "unit"), show_count(2, "stretch", "stretches")
    ('1 unit', '0 units', '2 stretches')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def find_label(labels: Sequence[str], wanted: object) -> str | None:
    """Return the label that has the wanted text or is the same number.

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
    """Return labels in numerical order if all are numbers, and otherwise in their own order.

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
