"""Figures: tables and Datasets in, matplotlib figures out."""

from nwbrnn.report.figures import (
    plot_differences,
    plot_rotations,
    plot_scores,
    plot_traces,
)

__all__ = ["plot_differences", "plot_rotations", "plot_scores", "plot_traces"]
