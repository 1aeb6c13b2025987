"""Draw figures/example_fit.png, the picture of the README: `python docs/make_figures.py`."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import nwbrnn
from nwbrnn.preprocessing import average_conditions
from nwbrnn.report.figures import COLOURS

HERE = Path(__file__).parent
SHOWN = ("0", "135", "270")  # directions [deg]


def find_typical(r2, candidates, number):
    """Return the candidates around the median, so that nothing is picked by eye."""
    order = candidates[np.argsort(r2[candidates])]
    middle = (len(order) - number) // 2
    return order[middle : middle + number]


def draw(result):
    """Return the figure: three muscles, a sampled neuron and two unsampled ones, of test trials."""
    test = result.recorded["split"].values == "test"
    recorded = average_conditions(result.recorded.isel(trial=test))
    network = average_conditions(result.predicted.isel(trial=test))
    sampled = recorded["sampled"].values
    unit_r2, output_r2 = result.scores.unit_r2, result.scores.output_r2
    muscles = find_typical(output_r2, np.arange(output_r2.size), 3)
    known = find_typical(unit_r2, np.flatnonzero(sampled), 1)
    unknown = find_typical(unit_r2, np.flatnonzero(~sampled), 2)
    panels = [("outputs", i, f"muscle {i + 1}", output_r2[i], "EMG [a.u.]") for i in muscles]
    panels += [("rates", i, "sampled neuron", unit_r2[i], "rate [Hz]") for i in known]
    panels += [("rates", i, "unsampled neuron", unit_r2[i], "rate [Hz]") for i in unknown]
    figure = Figure(figsize=(9, 4.6), layout="constrained", facecolor="white")
    for ax, (name, i, title, r2, label) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        for direction, colour in zip(SHOWN, COLOURS, strict=False):
            row = recorded["condition"].values.tolist().index(direction)
            ax.plot(recorded["time"], recorded[name][row, :, i], color=colour, lw=3.5, alpha=0.35)
            ax.plot(network["time"], network[name][row, :, i], color=colour, lw=1.4)
        ax.axvline(0, color="#888888", lw=0.8, ls=":")
        ax.set_title(f"{title}, R² {r2:.2f}", fontsize=10)
        ax.set_ylabel(label, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    for ax in figure.axes[3:]:
        ax.set_xlabel("time from the go cue [s]", fontsize=9)
    grey = [Line2D([], [], color="#555555", lw=3.5, alpha=0.35), Line2D([], [], color="#555555", lw=1.4)]
    handles = grey + [figure.axes[0].lines[2 * i + 1] for i in range(len(SHOWN))]
    names = ["recorded", "network"] + [f"reach to {direction}°" for direction in SHOWN]
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    ds = nwbrnn.read_nwb(HERE.parent / "example_data" / "teacher.nwb")
    draw(nwbrnn.fit(ds)).savefig(HERE / "figures" / "example_fit.png", dpi=140)
