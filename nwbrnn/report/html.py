"""Pages that stand alone: one HTML file, nothing is loaded from elsewhere, nothing from a file can run.

Text is escaped by the templates. The only script is our own, allowed by its hash; the policy of the page
forbids every other and every request.
"""

import base64
import functools
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from nwbrnn.plot.style import VECTOR
from nwbrnn.text import show_count

FOLDER = Path(__file__).parent
# what could end the element or a line of the script it stands in
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
MAX_PIXELS = 400  # of a matrix, in each direction


def write_page(
    template: str,
    values: Mapping[str, Any],
    path: Path,
    *,
    data: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Fill a template and write the page, whole or not at all.

    Parameters
    ----------
    template
        Its file in this folder.
    values
        What it shows; plain text is escaped.
    path
        The page to make, ``.html``.
    data
        What the script draws, plain numbers and text.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If it cannot be written.
    """
    from nwbrnn.storage.atomic import replace_whole
    from nwbrnn.storage.paths import check_output

    check_output(path, overwrite=overwrite, suffix=".html")
    text = render_page(template, values, data=data)
    with replace_whole(path, overwrite=overwrite) as temporary:
        # names in a file may hold half of a character
        temporary.write_bytes(text.encode("utf-8", "replace"))


def render_page(template: str, values: Mapping[str, Any], *, data: Mapping[str, Any] | None = None) -> str:
    """Return the text of a page; see :func:`write_page`."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": show_number, "percent": place, "count": show_count}
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    own = {
        "policy": Markup(policy),
        "style": Markup(style),
        "script": Markup(script),
        "data": embed_json(data or {}),
    }
    return environment.get_template(template).render(own | dict(values))


def embed_json(values: Mapping[str, Any]) -> Markup:
    """Return values as JSON that can stand inside a script element, NaN as null."""
    text = json.dumps(_replace_nan(values), separators=(",", ":"), allow_nan=False)
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)


def _replace_nan(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {str(name): _replace_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_replace_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def round_values(values: NDArray[np.floating]) -> Any:
    """Return numbers as nested lists, rounded to what a drawing can show, a thousandth of their range."""
    finite = values[np.isfinite(values)]
    extent = float(np.ptp(finite)) if finite.size else 0.0
    digits = 3 - math.floor(math.log10(extent)) if extent > 0 else 6
    return np.round(values.astype(np.float64), digits).tolist()


def render_figure(figure: Figure, *, name: str) -> Markup:
    """Return a figure as inline SVG whose text and axes take the colour of the page.

    Parameters
    ----------
    figure
        What matplotlib drew.
    name
        Begins the identifiers inside, which have to be unique on a page.
    """
    buffer = io.StringIO()
    with rc_context(VECTOR):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text, count=2)  # HTML knows what SVG is
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return Markup(text.replace("#000000", "currentColor"))


def render_matrix(values: NDArray[np.floating]) -> tuple[str, float]:
    """Return a square matrix as the address of an image, and the value of its deepest red.

    Positive values are red, 0 is white, and negative values are blue.
    """
    step = math.ceil(len(values) / MAX_PIXELS)
    if step > 1:
        kept = len(values) // step * step
        values = values[:kept, :kept].reshape(kept // step, step, -1, step).mean(axis=(1, 3))
    limit = float(np.quantile(np.abs(values), 0.995)) or 1.0
    buffer = io.BytesIO()
    imsave(
        buffer, values, vmin=-limit, vmax=limit, cmap="RdBu_r", format="png", metadata={"Software": "nwbrnn"}
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), limit


def show_number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table, a dash if it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def place(value: float) -> str:
    """Return where a number from 0 to 1 lies on a bar, for a style sheet."""
    return f"{100 * min(max(value, 0.0), 1.0):.1f}%" if math.isfinite(value) else "0%"


create_figure = functools.partial(Figure, layout="constrained")
