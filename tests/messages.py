"""What a message must name, so that tests hold whatever its sentences are."""

import re


def names(*parts: object) -> str:
    """Return a pattern for ``match=`` that asks for every part as a whole, in any order."""
    return r"(?s)\A" + "".join(f"(?=.*{_whole(part)})" for part in parts)


def assert_names(text: str, *parts: object) -> None:
    """Fail unless the text names every part."""
    missing = [part for part in parts if not re.search(_whole(part), text)]
    assert not missing, f"the message does not name {missing}: {text}"


def _whole(part: object) -> str:
    """Return a pattern that finds 3 in "got 3;" but neither in 13, nor in 0.3 or 3.5."""
    text = str(part)
    before = r"(?<!\w)(?<!\d\.)" if re.match(r"\w", text) else ""
    after = r"(?!\w)(?!\.\d)" if re.search(r"\w\Z", text) else ""
    return f"{before}{re.escape(text)}{after}"
