"""How the documentation is built: `make docs`.

Neither the build nor the pages use a network, unless NWBRNN_DOCS_ONLINE is set: then the tutorial on public
data reads from the archive.
"""

import os
import sys
from importlib.metadata import version as find_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import notebooks  # noqa: E402
import offline  # noqa: E402
import reference  # noqa: E402

project = "nwbrnn"
author = "The nwbrnn developers"
copyright = "The nwbrnn developers, BSD-3-Clause"  # noqa: A001
version = release = find_version("nwbrnn")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build", "_ext", "generated/notebooks"]
suppress_warnings = ["config.cache"]  # numpydoc's checks are a set, which is not stored between builds
nitpicky = True
# other projects' pages cannot be linked without a network
nitpick_ignore_regex = [
    ("py:.*", r"(numpy|np|xarray|xr|pandas|pd|torch|pathlib|collections|typing|matplotlib|pydantic)\..*"),
    ("py:.*", r"(Path|Array|NDArray|ArrayLike|Self|optional|Figure|Axes)"),
    ("py:class", r"nwbrnn\.dandiset\.summary\.(Selection|Row)"),  # described as nwbrnn.dandiset.Row
    ("py:class", r"nwbrnn\.storage\.(source\.Source|dandi\.Asset)"),  # what an address becomes; not public
]

myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 4

# Tutorials are run when the pages are built: a cell that fails, or that warns, ends the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "warn"
os.environ["NWBRNN_EXAMPLE_DATA"] = str(HERE.parent / "example_data")
os.environ["PYTHONPATH"] = f"{HERE / '_ext'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 70
autodoc_member_order = "bysource"
autosummary_generate = False  # the pages are written by _ext/reference.py
numpydoc_show_class_members = False
numpydoc_validation_exclude = {r"\.[A-Z]\w*"}  # fields of classes are under Attributes or in Settings
numpydoc_validation_checks = {
    # all but these
    "all",
    "EX01",  # no example: those that run are in the tutorials
    "SA01",  # no "see also"
    "ES01",  # no text beyond the summary
    "GL01",  # text begins on the line of the quotes
    "GL08",  # fields of a dataclass have no docstring; ruff finds what is missing
    *("PR04", "RT02"),  # types stand in the signature
    *("PR08", "PR09", "RT03", "RT05"),  # a description may be a fragment
}

html_theme = "pydata_sphinx_theme"
html_title = f"nwbrnn {version}"
html_static_path = ["_static"]
html_css_files = ["nwbrnn.css"]
html_js_files = ["nwbrnn.js"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"index": []}

reference.write_pages(HERE / "generated")
notebooks.write_notebooks(HERE, HERE / "generated" / "notebooks")


def setup(app):
    """Offer notebooks, and refuse pages that would load something from elsewhere."""
    app.connect("source-read", notebooks.add_link)
    app.connect("build-finished", offline.check_pages)
