"""From an NWB file to a recurrent network that reproduces muscles and recorded neurons, and back.

The public names are imported on first use, so that ``import nwbrnn`` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nwbrnn import plot as plot
    from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
    from nwbrnn.dataset import create_dataset, list_choices
    from nwbrnn.errors import NwbrnnError
    from nwbrnn.evaluation import Scores, assess, evaluate
    from nwbrnn.formats import read_circuit, read_dataset, write_dataset, write_lfads, write_teacher
    from nwbrnn.formats.fit.decode import read_fit
    from nwbrnn.formats.fit.export import write_fit
    from nwbrnn.job import fit, refit
    from nwbrnn.prediction import predict
    from nwbrnn.preprocessing import pool
    from nwbrnn.readers import inspect_nwb, read_nwb, read_run, read_sessions
    from nwbrnn.readers.doctor import diagnose
    from nwbrnn.report import write_fit_report
    from nwbrnn.result import FitResult
    from nwbrnn.schema import validate
    from nwbrnn.sweep import run_sweep
    from nwbrnn.teacher import TeacherConfig, build_circuit, simulate_teacher
    from nwbrnn.timeline import to_pynapple

    __version__: str

_MODULES = {
    "FitConfig": "nwbrnn.config",
    "FitResult": "nwbrnn.result",
    "NwbrnnError": "nwbrnn.errors",
    "ReadConfig": "nwbrnn.config",
    "Scores": "nwbrnn.evaluation",
    "SweepConfig": "nwbrnn.config",
    "TeacherConfig": "nwbrnn.teacher",
    "assess": "nwbrnn.evaluation",
    "build_circuit": "nwbrnn.teacher",
    "create_dataset": "nwbrnn.dataset",
    "diagnose": "nwbrnn.readers.doctor",
    "evaluate": "nwbrnn.evaluation",
    "fit": "nwbrnn.job",
    "inspect_nwb": "nwbrnn.readers",
    "list_choices": "nwbrnn.dataset",
    "pool": "nwbrnn.preprocessing",
    "predict": "nwbrnn.prediction",
    "read_circuit": "nwbrnn.formats",
    "read_dataset": "nwbrnn.formats",
    "read_fit": "nwbrnn.formats.fit.decode",
    "read_nwb": "nwbrnn.readers",
    "read_run": "nwbrnn.readers",
    "read_sessions": "nwbrnn.readers",
    "refit": "nwbrnn.job",
    "run_sweep": "nwbrnn.sweep",
    "simulate_teacher": "nwbrnn.teacher",
    "to_pynapple": "nwbrnn.timeline",
    "validate": "nwbrnn.schema",
    "write_dataset": "nwbrnn.formats",
    "write_fit": "nwbrnn.formats.fit.export",
    "write_fit_report": "nwbrnn.report",
    "write_lfads": "nwbrnn.formats",
    "write_teacher": "nwbrnn.formats",
}

__all__ = [
    "FitConfig",
    "FitResult",
    "NwbrnnError",
    "ReadConfig",
    "Scores",
    "SweepConfig",
    "TeacherConfig",
    "assess",
    "build_circuit",
    "create_dataset",
    "diagnose",
    "evaluate",
    "fit",
    "inspect_nwb",
    "list_choices",
    "pool",
    "predict",
    "read_circuit",
    "read_dataset",
    "read_fit",
    "read_nwb",
    "read_run",
    "read_sessions",
    "refit",
    "run_sweep",
    "simulate_teacher",
    "to_pynapple",
    "validate",
    "write_dataset",
    "write_fit",
    "write_fit_report",
    "write_lfads",
    "write_teacher",
]


_SUBMODULES = ("plot",)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("nwbrnn")
    if name in _SUBMODULES:
        return importlib.import_module(f"nwbrnn.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'nwbrnn' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
