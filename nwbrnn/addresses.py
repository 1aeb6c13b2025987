"""Remove secrets from addresses before they are shown or stored; no other module knows what can be secret.

This module imports nothing of nwbrnn.
"""

import re

# pathlib merges the two slashes of a scheme into one
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][\w+.-]{1,20}://+|(https?|s3|ftps?):/)(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_WORD = re.compile(r"[^\s'\"<>]+")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")


def strip_secrets(text: str) -> str:
    """Return an address without user, password, query and fragment, or another text as it is.

    Parameters
    ----------
    text
        The address begins at the first scheme; text before it, such as the name of an option, is kept. If
        the password contains ``/``, ``?`` or ``#``, the user cannot be told from the host; ``…`` then
        replaces both and the path. Addresses of the DANDI archive hold no secrets.
    """
    found = _ADDRESS.search(text)
    if found is None or found["scheme"].lower().startswith("dandi:"):
        return text
    public, cut, hidden = re.fullmatch(r"([^?#]*)([?#]?)(.*)", found["rest"], re.DOTALL).groups()  # type: ignore[union-attr]
    place, slash, path = public.partition("/")
    host = place.rpartition("@")[2]
    if not _HOST.fullmatch(host) or (cut and not slash and "@" in hidden):
        host, slash, path = "…", "", ""
    return f"{text[: found.start()]}{found['scheme']}{host}{slash}{path}"


def strip_all_secrets(text: str) -> str:
    """Return a sentence or an error message with all its addresses stripped; see :func:`strip_secrets`."""

    def strip_word(found: re.Match[str]) -> str:
        word = found[0].rstrip(".,:;)")
        return strip_secrets(word) + found[0][len(word) :]

    return _WORD.sub(strip_word, text) if ":/" in text else text
