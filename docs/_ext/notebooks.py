"""Offer each page that runs as a notebook: the same text and code, without output, to run in a clone."""

import re
from pathlib import Path

import nbformat
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook

START = (
    "Run this notebook in the folder of a clone of nwbrnn, which contains `example_data/`, and start "
    "Jupyter in an environment with nwbrnn that you have activated."
)
_GENERATED = re.compile(r"\[([^\]]+)\]\((?:\.\./)?generated/[^)]+\)")
_LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+\.md)(#[^)]*)?\)")


def write_notebooks(docs: Path, folder: Path) -> None:
    """Write a notebook for each page in ``docs`` that runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in list_pages(docs):
        book = convert(page.read_text(encoding="utf-8"))
        nbformat.write(book, folder / f"{page.stem}.ipynb")


def list_pages(docs: Path) -> list[Path]:
    """Return the pages that run."""
    pages = (page for page in docs.rglob("*.md") if not {"_build", "generated"} & set(page.parts))
    return sorted(page for page in pages if is_myst_markdown_notebook(page.read_text(encoding="utf-8")))


def convert(text: str) -> nbformat.NotebookNode:
    """Return a page as a notebook, without the cells that only the build of the pages needs."""
    book = read_myst_markdown_notebook(text)
    cells = [cell for cell in book.cells if "remove-cell" not in cell.metadata.get("tags", [])]
    title, *rest = cells
    title.source = f"{title.source}\n\n*{START}*"
    for number, cell in enumerate([title, *rest]):
        cell.metadata.clear()
        cell.id = f"cell-{number}"  # the same file every time
        if cell.cell_type == "markdown":
            cell.source = _GENERATED.sub(r"\1", cell.source)  # a clone has no such page
            cell.source = _LINK.sub(r"](docs/\1\2)", cell.source)
            cell.source = re.sub(r"^:::(\{note\})?$\n?", "", cell.source, flags=re.MULTILINE)
            cell.source = cell.source.replace("```{code-block} python3", "```python")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return nbformat.v4.new_notebook(cells=[title, *rest], metadata=metadata)


def add_link(app, name: str, source: list[str]) -> None:
    """Add a link to the notebook below the title of a page that runs."""
    if is_myst_markdown_notebook(source[0]) and (Path(app.srcdir) / f"{name}.md").exists():
        path = f"/generated/notebooks/{Path(name).name}.ipynb"
        link = f"{{download}}`Download this page as a notebook <{path}>`"
        source[0] = re.sub(r"^(# .*\n)", rf"\1\n{link}\n", source[0], count=1, flags=re.MULTILINE)
