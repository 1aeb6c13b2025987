"""Write the reference pages from the code itself: public names, the Dataset, settings, commands."""

import importlib
import inspect
import re
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

import nwbrnn
from nwbrnn.cli.main import ABOUT, app
from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.config.base import MAX_NUMBER
from nwbrnn.evaluation import BASELINES, SCORES
from nwbrnn.evaluation.specs import MEASURED
from nwbrnn.readers import vocabulary
from nwbrnn.schema import COORDINATES, VARIABLES
from nwbrnn.teacher import TeacherConfig

# what public names are about, by the part of nwbrnn they live in
SECTIONS = {
    "Read files": ("readers", "dataset", "schema"),
    "Fit and predict": ("job", "training", "prediction"),
    "Results and scores": ("result", "evaluation", "timeline"),
    "Sweeps": ("sweep",),
    "Figures": ("plot", "report"),
    "Store and load": ("formats",),
    "Simulate": ("teacher",),
    "Settings and errors": ("config", "errors"),
}
# not imported from nwbrnn, but what its functions give and take
RETURNED = (
    "nwbrnn.result.Run",
    "nwbrnn.evaluation.scores.Assessment",
    "nwbrnn.evaluation.scores.Score",
    "nwbrnn.evaluation.scores.Rival",
    "nwbrnn.models.Network",
    "nwbrnn.models.Observations",
    "nwbrnn.models.RateRNN",
    "nwbrnn.models.Tracked",
    "nwbrnn.models.GatedRNN",
    "nwbrnn.models.FittedNetwork",
    "nwbrnn.models.Prediction",
    "nwbrnn.readers.inspect.Inspection",
    "nwbrnn.readers.rules.objects.Choice",
    "nwbrnn.readers.doctor.Findings",
    "nwbrnn.readers.doctor.Finding",
    "nwbrnn.teacher.Circuit",
    "nwbrnn.sweep.Cell",
    "nwbrnn.sweep.create_table",
    "nwbrnn.sweep.compare_with_baseline",
    "nwbrnn.prediction.Push",
)
# not imported from nwbrnn, but what pages show how to use
SHOWN = (
    "nwbrnn.preprocessing.compute_envelope",
    "nwbrnn.preprocessing.EnvelopeFilter",
    "nwbrnn.evaluation.score_horizons",
    "nwbrnn.sweep.list_finished",
    "nwbrnn.sweep.rebuild",
    "nwbrnn.dandiset.select_assets",
    "nwbrnn.dandiset.Journal",
    "nwbrnn.dandiset.Selection",
    "nwbrnn.dandiset.Row",
    "nwbrnn.dandiset.Settings",
    "nwbrnn.dandiset.check_assets",
    "nwbrnn.dandiset.fit_assets",
)
SETTINGS = {
    "read": (ReadConfig, "Section `read` of a `fit.yaml`, and keywords of {py:func}`nwbrnn.read_nwb`."),
    "fit": (
        FitConfig,
        "Section `fit` of a `fit.yaml`, `--set name=value` on the command line, and keywords of "
        "{py:func}`nwbrnn.fit`.",
    ),
    "sweep": (SweepConfig, "Options of `nwbrnn sweep`."),
    "teacher": (
        TeacherConfig,
        "Options of `nwbrnn simulate`, and what {py:func}`nwbrnn.simulate_teacher` takes.",
    ),
}

DATASET = """# The Dataset

```{py:module} nwbrnn.schema
```

What {py:func}`nwbrnn.read_nwb` returns and {py:func}`nwbrnn.fit` takes: an `xarray.Dataset` with these
variables and coordinates. {py:func}`nwbrnn.create_dataset` makes one of arrays, {py:func}`nwbrnn.validate`
checks one. `attrs["bin_size"]` is the width of a bin [s].
"""


VOCABULARY = """# Names and outcomes

By these words {py:func}`nwbrnn.read_nwb` finds series, trial columns, events and outcomes. Capitals, spaces
and underscores do not matter, nor does `time` at the end of the name of an event or outcome.
"""


SCORE_PAGE = """# Scores

All scores of {py:func}`nwbrnn.assess`, on the test trials. {py:func}`nwbrnn.evaluate` computes a few of them,
on condition averages and on single trials. What limits, baselines and chance are is explained in
[Evaluation](../evaluation.md).
"""


BASELINES_TEXT = """Each is fitted to the trials that are not tested, and scored as the network is.
A network sees only the task; a baseline that sees neurons is a decoder.
"""


def write_pages(folder: Path) -> None:
    """Write all generated pages; what has not changed is left alone, what is gone is removed."""
    pages = _write_api() | {"settings.md": _describe_settings(), "commands.md": _describe_commands()}
    pages["dataset.md"] = _describe_dataset()
    pages["vocabulary.md"] = _describe_vocabulary()
    pages["scores.md"] = _describe_scores()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*.*"):
        if path.relative_to(folder).as_posix() not in pages and path.suffix != ".ipynb":
            path.unlink()


def _write_api() -> dict[str, str]:
    """Return the page of each public name, and the overview."""
    sections: dict[str, list[str]] = {title: [] for title in SECTIONS} | {"More": []}
    pages = {}
    for name in dir(nwbrnn):
        thing = getattr(nwbrnn, name)
        module = thing if inspect.ismodule(thing) else inspect.getmodule(thing)
        part = module.__name__.split(".")[1]
        title = next((title for title, parts in SECTIONS.items() if part in parts), "More")
        full = f"nwbrnn.{name}"
        sections[title] += [f"{full}.{m}" for m in thing.__all__] if inspect.ismodule(thing) else [full]
    sections["Filters, forecasts, cells of a sweep, dandisets"] = list(SHOWN)
    sections["What these functions give and take"] = list(RETURNED)
    lines = _title("Python")
    lines += [
        "Most users need only what ``import nwbrnn`` gives, and ``nwbrnn.plot``. Other names may change "
        "without notice. In the examples, ``example`` is the path of an NWB file.",
        "",
    ]
    for title, names in sections.items():
        if names:
            lines += [title, "-" * len(title), "", ".. autosummary::", "   :nosignatures:", ""]
            lines += [f"   {name}" for name in names] + [""]
    names = [name for group in sections.values() for name in group]
    pages = {f"api/{name}.rst": _describe_name(name) for name in names}
    lines += [".. toctree::", "   :hidden:", "", *(f"   api/{name}" for name in names), ""]
    return pages | {"api.rst": "\n".join(lines)}


def _title(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _find(name: str) -> object:
    """Return the object of a dotted name."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def _describe_name(name: str) -> str:
    """Return the page of a function, a class, or of all errors."""
    thing = _find(name)
    lines = _title(name)
    if thing is nwbrnn.NwbrnnError:
        module = inspect.getmodule(thing)
        kinds = inspect.getmembers(
            module, lambda member: inspect.isclass(member) and issubclass(member, thing)
        )
        errors = [error for error, kind in kinds if kind is not thing]
        lines += [f".. autoexception:: {name}", ""]
        for error in errors:
            lines += [f".. autoexception:: {module.__name__}.{error}", "   :show-inheritance:", ""]
    elif inspect.isclass(thing) and issubclass(thing, BaseModel):
        lines += [f".. autoclass:: {name}()", "", "Its fields are in :doc:`/generated/settings`.", ""]
    elif inspect.isclass(thing):
        lines += [f".. autoclass:: {name}", "   :members:", ""]
    else:
        lines += [f".. autofunction:: {name}", ""]
    return "\n".join(lines)


def _describe_settings() -> str:
    """Return the page of all settings."""
    text = (
        "# Settings\n\nEvery setting with its default, its range and what it means. They are explained in\n"
    )
    text += "[Reading](../reading.md), [Training](../training.md) and [Evaluation](../evaluation.md).\n"
    for title, (model, where) in SETTINGS.items():
        text += (
            f"\n## {title}\n\n{{py:class}}`nwbrnn.{model.__name__}`: {_describe_model(model)}\n\n{where}\n\n"
        )
        text += "| setting | values | default | meaning |\n|---|---|---|---|\n"
        for name, field in model.model_fields.items():
            meaning = _protect(field.description or "")
            text += f"| `{name}` | {_describe_type(field)} | {_describe_default(field)} | {meaning} |\n"
    return text


def _describe_model(model: type) -> str:
    """Return what a class of settings is, without its example."""
    return (inspect.getdoc(model) or "").split("\n\nExamples\n")[0]


def _describe_dataset() -> str:
    """Return the page of the Dataset's contract."""
    text = DATASET
    for name, specs in (("VARIABLES", VARIABLES), ("COORDINATES", COORDINATES)):
        text += f"\n## {name.capitalize()}\n\n```{{py:data}} {name}\n```\n\n"
        text += "| name | dimensions | meaning | unit | |\n|---|---|---|---|---|\n"
        for spec in specs:
            needed = "required" if spec.required else ""
            cells = f"`{spec.name}`", ", ".join(spec.dims), _protect(spec.text), spec.units or "", needed
            text += "| " + " | ".join(cells) + " |\n"
    return text


def _describe_vocabulary() -> str:
    """Return the page of the names and outcomes by which the rules of reading find things."""
    rows = {
        f"role `{role}`": f"names that match `{pattern}`" for role, pattern in vocabulary.ROLE_WORDS.items()
    }
    lists = {
        "go cue": vocabulary.GO_NAMES,
        "movement onset": vocabulary.MOVE_NAMES,
        "target shown": vocabulary.TARGET_NAMES,
        "condition": [" + ".join(names) for names in vocabulary.CONDITION_NAMES],
        "outcome": [name for name, affirms in vocabulary.OUTCOME_COLUMNS.items() if affirms],
        "outcome, of trials to leave out": [
            n for n, affirms in vocabulary.OUTCOME_COLUMNS.items() if not affirms
        ],
        "a trial that succeeded": vocabulary.SUCCESSES,
        "a trial that failed": vocabulary.FAILURES,
        "a line of events rises": vocabulary.RISES,
        "a line of events falls": vocabulary.FALLS,
        "column of electrodes that names channels": vocabulary.LABELS,
    }
    rows |= {what: ", ".join(f"`{word}`" for word in words) for what, words in lists.items()}
    table = "".join(f"| {what} | {_protect(words)} |\n" for what, words in rows.items())
    return f"{VOCABULARY}\n| what | words, best first |\n|---|---|\n{table}"


def _describe_scores() -> str:
    """Return the page of all scores."""
    rows = ""
    for spec in (*SCORES, *MEASURED):
        limit = "noise ceiling" if spec.noise_ceiling else "reliability" if spec.has_reliability else "–"
        chance = "yes" if spec.has_chance else "–"
        cells = (
            spec.name,
            _protect(spec.meaning),
            spec.unit or "–",
            spec.better,
            "the network" if spec in MEASURED else spec.level,
            limit,
            chance,
        )
        rows += "| " + " | ".join(cells) + " |\n"
    names = "score", "what it is", "unit", "better", "computed from", "limit", "chance"
    scores = f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n{rows}"
    rows = "".join(f"| {b.name} | {_protect(b.meaning)} | {b.sees} |\n" for b in BASELINES)
    baselines = f"| baseline | what it is | what it sees of the test trials |\n|---|---|---|\n{rows}"
    return f"{SCORE_PAGE}\n{scores}\n## Baselines\n\n{BASELINES_TEXT}\n{baselines}"


def _describe_type(field: FieldInfo) -> str:
    """Return the type and the range of a field in words."""
    limits = []
    for limit in field.metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if hasattr(limit, name) and getattr(limit, name) < MAX_NUMBER:
                limits.append(f"{sign} {getattr(limit, name):g}")
    kind = ", ".join(_name_types(field.annotation))
    return _protect(", ".join([kind, *limits]))


def _name_types(annotation: object) -> list[str]:
    """Return the parts of a type, in words; None is not said, the default shows it."""
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if annotation is type(None):
        return []
    if origin is typing.Literal:
        return [f"`{value}`" for value in arguments]
    if origin is tuple:
        return ["list"] if arguments[-1] is Ellipsis else [f"{len(arguments)} numbers"]
    if origin is dict:
        return ["mapping"]
    if arguments:
        parts = [part for argument in arguments for part in _name_types(argument)]
        return list(dict.fromkeys(parts))
    words = {
        "int": "whole number",
        "float": "number",
        "str": "text",
        "bool": "true, false",
        "Any": "anything",
    }
    return [words[annotation.__name__]]


def _describe_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "–"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`"


def _protect(text: str) -> str:
    """Return text that is one cell of a table; what stands between backticks is shown as it is."""
    parts = re.sub(r"\s+", " ", text).replace("|", "\\|").split("`")
    return "`".join(
        part if i % 2 else part.replace("<", "&lt;").replace("*", "\\*") for i, part in enumerate(parts)
    )


def _describe_commands() -> str:
    """Return the page of the command line."""
    root = get_command(app)
    text = f"# Commands\n\n{ABOUT}\n\n`nwbrnn COMMAND --help` says the same on the terminal.\n"
    for name in root.list_commands(None):
        command = root.get_command(None, name)
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["nwbrnn", name, *map(_name_argument, arguments), "[OPTIONS]"])
        text += f"\n## nwbrnn {name}\n\n```text\n{usage}\n```\n\n{_describe_help(command.help or '')}\n\n"
        rows = [f"| `{_name_argument(p)}` | {_protect(_plain(p.help or ''))} |" for p in arguments]
        rows += [_describe_option(p) for p in options]
        text += "\n".join(["| argument or option | meaning |", "|---|---|", *rows, ""])
    return text


def _name_argument(parameter: Any) -> str:
    return (parameter.metavar or parameter.name).upper()


def _describe_option(parameter: Any) -> str:
    """Return a row of the table: the spellings of an option, what it takes, and its help."""
    kind = parameter.type_descriptor.annotation
    takes = [] if parameter.is_flag else [parameter.metavar or " ".join(_list_metavars(kind))]
    spellings = ", ".join(" ".join([text, *takes]) for text in (*parameter.opts, *parameter.secondary_opts))
    needed = " Required." if parameter.required else ""
    return f"| `{_protect(spellings)}` | {_protect(_plain(parameter.help or ''))}{needed} |"


def _list_metavars(kind: Any) -> list[str]:
    """Return what an option takes, in capitals."""
    parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
    if parts:
        return [name for part in parts for name in _list_metavars(part)]
    return [{"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH"}.get(kind.__name__, "VALUE")]


def _describe_help(text: str) -> str:
    """Return the help of a command; its examples become code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        about, example, lines = paragraph.partition("\b\nExample:\n")
        paragraphs.append(f"```sh\n{inspect.cleandoc(lines)}\n```" if example else _plain(about))
    return "\n\n".join(paragraphs)


def _plain(text: str) -> str:
    """Return help without the markup of rich and the page breaks of click."""
    return re.sub(r"\[/?[a-z][a-z ]*\]|[\b\f]", "", text)
