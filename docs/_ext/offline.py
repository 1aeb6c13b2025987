"""Check that built pages load nothing from a server: they must work from a folder on a train."""

import re
from pathlib import Path

LOADED = [
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=[\"']((?:https?:)?//[^\"']+)",
    r"<link\b(?=[^>]*?\brel=[\"'](?:stylesheet|preload|icon|modulepreload)[^>]*)[^>]*?\bhref=[\"']((?:https?:)?//[^\"']+)",
    r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')]+)",
]


def check_pages(app, exception):
    """Raise if a page or a style sheet names a resource on a server."""
    if exception is not None or app.builder.format != "html":
        return
    faults = []
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8", errors="replace")
            faults += [f"{path}: {address}" for rule in LOADED for address in re.findall(rule, text)]
    if faults:
        raise RuntimeError("expected pages that load nothing from a server, but got\n" + "\n".join(faults))
