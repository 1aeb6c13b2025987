"""Figures and pages: tables and Datasets in, matplotlib figures and HTML out."""

from nwbrnn.report.figures import (
    plot_circuits,
    plot_differences,
    plot_rotations,
    plot_scores,
    plot_sessions,
    plot_traces,
)
from nwbrnn.report.fit_page import write_fit_report

__all__ = [
    "plot_circuits",
    "plot_differences",
    "plot_rotations",
    "plot_scores",
    "plot_sessions",
    "plot_traces",
    "write_fit_report",
]
