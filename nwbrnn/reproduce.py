"""Test the claims of Salatiello & Giese 2020 (arXiv:2005.02211), and mechanisms, on simulated circuits."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.formats import write_teacher
from nwbrnn.plot import save
from nwbrnn.report import plot_circuits, plot_rotations, plot_traces
from nwbrnn.storage.atomic import replace_whole, write_json
from nwbrnn.sweep import Cell, flatten, list_finished, rebuild, run_sweep, write_results
from nwbrnn.sweep.run import Progress
from nwbrnn.teacher import MECHANISMS, TeacherConfig, simulate_teacher

SAMPLED = "25%"  # of the neurons, for claims about one number of sampled neurons
GOOD = 0.9  # smallest R² at which outputs and sampled neurons count as reproduced; our choice

LEVELS: tuple[int | str, ...] = (0, "5%", "10%", SAMPLED, "50%", "100%")
QUICK_LEVELS: tuple[int | str, ...] = (0, "5%", SAMPLED)
N_CIRCUITS, N_CIRCUITS_QUICK = 10, 3
N_CIRCUITS_EACH = 3  # if each of 16 directions is held out in turn

CIRCUITS, CLAIMS, RECOVERY = "circuits", "claims.json", "mechanisms.csv"
MEASURED_OF_BOTH = (
    "leading growth rate", "slow modes", "attracting points", "Lyapunov exponent", "departure from normality",
)  # fmt: skip
"""Measures that are compared with the same measure of the circuit."""
PREDICTED = (
    "unsampled neurons R2", "response correlation, outputs", "response correlation, unsampled neurons",
    "response correlation, outputs, one neuron pushed",
)  # fmt: skip
"""Measures that are near 1 if a network predicts its circuit."""


@dataclass(frozen=True)
class Evidence:
    """One number for a claim."""

    score: str  # what was measured, on held-out data
    # mean with 95 % interval: of the network, or of its paired difference to the one without sampled neurons
    value: float
    low: float
    high: float
    baseline: float  # mean without sampled neurons; NaN where the value is not a difference
    effect: float  # Cohen's d_z of the difference
    # number of circuits whose difference supports the claim, and number of circuits
    better: int
    seeds: int
    holds: bool  # whether the whole interval supports the claim


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and the evidence for it."""

    text: str
    evidence: tuple[Evidence, ...]

    @property
    def holds(self) -> bool:
        """Whether all evidence supports the claim."""
        return all(one.holds for one in self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text for JSON, with ``None`` for NaN."""
        evidence = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(one).items()}
            for one in self.evidence
        ]
        return {"text": self.text, "holds": self.holds, "evidence": evidence}


@dataclass(frozen=True)
class _Part:
    """One sweep of the reproduction; see :data:`PARTS`."""

    name: str
    grid: SweepConfig
    only_full: bool = False


PAIR: tuple[int | str, ...] = (0, SAMPLED)
FEWER_TRIALS = {"train_trials": (1, 2, 3)}  # of 4 or 5 trials of each direction
SHORTER_TRAINING = {"train_until": (0.4,)}  # [s], of 0.7 s after the go cue
_ONE = SweepConfig(sampled=PAIR, seeds=1, held_out="between", resamples=0)
PARTS = (
    _Part("between", SweepConfig(sampled=LEVELS, seeds=1, held_out="between", resamples=10)),
    _Part("trials", SweepConfig(sampled=PAIR, seeds=1, held_out="trials", resamples=10)),
    _Part("fewer_trials", _ONE.model_copy(update={"vary": FEWER_TRIALS})),
    _Part("longer", _ONE.model_copy(update={"vary": SHORTER_TRAINING})),
    _Part("each", _ONE.model_copy(update={"held_out": "condition"}), only_full=True),
)
"""Sweeps that hold out every other direction; that hold out trials; that train on fewer trials; that train on
a shorter time; and that hold out each direction in turn.
"""


class Reproduction(NamedTuple):
    """The claims, and what networks recover from each kind of circuit; see :func:`list_recovery`."""

    claims: tuple[Claim, ...]
    mechanisms: pd.DataFrame


def reproduce(
    folder: str | Path,
    *,
    quick: bool = False,
    scheduler: str | None = None,
    progress: Callable[[str], Progress | None] = lambda _: None,
) -> Reproduction:
    """Simulate circuits, fit networks to them, judge the claims, and compare mechanisms.

    Each is a stability-optimized circuit of 200 neurons that reaches in 16 directions, written as NWB
    and read back; each seed has another circuit. The folder keeps everything, and a second run does not
    repeat finished parts.

    Parameters
    ----------
    folder
        Folder for circuits, sweeps, figures, ``claims.json`` and ``mechanisms.csv``.
    quick
        Whether to use three circuits instead of ten and fewer numbers of sampled neurons, and to skip the
        sweep that holds out each direction in turn.
    scheduler
        See :func:`nwbrnn.sweep.run_sweep`.
    progress
        Called with the name of each part; returns a function that is called after each fit of the part.

    Returns
    -------
    Reproduction
        The three claims of the paper, one on perturbations, and what is recovered from other mechanisms.

    Raises
    ------
    ConfigError, ExportError
        As :func:`nwbrnn.sweep.run_sweep`.
    """
    folder = Path(folder)
    files = create_circuits(folder / CIRCUITS, N_CIRCUITS_QUICK if quick else N_CIRCUITS)
    statistics: dict[str, pd.DataFrame] = {}
    tables: dict[str, pd.DataFrame] = {}

    def run(name: str, sources: list[Path], grid: SweepConfig) -> None:
        configs, done = (ReadConfig(), FitConfig()), progress(name)
        table = run_sweep(sources, folder / name, grid, configs=configs, scheduler=scheduler, progress=done)
        statistics[name] = write_results(table, folder / name, pooled=True)
        tables[name] = flatten(table)

    for part in PARTS:
        if quick and part.only_full:
            continue
        grid = part.grid
        if quick and part.name == "between":
            grid = grid.model_copy(update={"sampled": QUICK_LEVELS})
        run(part.name, files[:N_CIRCUITS_EACH] if part.name == "each" else files, grid)
    _draw(folder)
    claims = judge(statistics["between"], statistics["trials"])
    for number, claim in enumerate(claims, start=1):
        name = "trials" if number == 1 else "between"
        _draw_claim(claim, tables[name], statistics[name], folder / "figures" / f"claim_{number}.png")
    about = [claim.to_dict() for claim in claims]
    write_json(about, folder / CLAIMS, overwrite=True)
    others = [name for name in MECHANISMS if name != "soc"]
    for kind in others:
        run(kind, create_circuits(folder / CIRCUITS / kind, len(files), kind=kind), _ONE)
    mechanisms = list_recovery({"soc": statistics["between"]} | {kind: statistics[kind] for kind in others})
    with replace_whole(folder / RECOVERY, overwrite=True) as temporary:
        mechanisms.to_csv(temporary, index=False)
    return Reproduction(claims, mechanisms)


def create_circuits(folder: Path, n_circuits: int, *, kind: str = "soc") -> list[Path]:
    """Simulate circuits and write them as NWB files, keeping those that exist.

    Each circuit of this kind has its own weights, readout and noise. The folder is created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"circuit_{seed}.nwb" for seed in range(n_circuits)]
    for seed, file in enumerate(files):
        if not file.exists():
            config = TeacherConfig(teacher=kind, seed=seed, n_directions=16)
            write_teacher(simulate_teacher(config), file)
    return files


def judge(between: pd.DataFrame, trials: pd.DataFrame) -> tuple[Claim, ...]:
    """Judge the claims by the statistics with every other direction held out, and with trials held out."""
    level = str(FitConfig(sampled=SAMPLED).sampled)
    known = trials[trials["sampled"] == level].set_index("score")
    new = between[between["sampled"] == level].set_index("score")
    return (
        Claim(
            f"A network trained on the outputs and {SAMPLED} of the neurons reproduces both",
            tuple(_measure(known, score) for score in ("output R2", "sampled neurons R2")),
        ),
        Claim(
            "In new directions it reproduces the neurons that were not sampled, and the population dynamics, "
            "better than training on the outputs alone",
            tuple(_compare(new, score) for score in ("unsampled neurons R2", "canonical correlation")),
        ),
        Claim(
            "Training on the dynamics improves the outputs in directions never trained on",
            (_compare(new, "output R2"),),
        ),
        Claim(
            "After a kick within the circuit's leading components, it responds as the circuit does, better "
            "than if trained on the outputs alone",
            tuple(
                _compare(new, f"response correlation, {what}") for what in ("outputs", "unsampled neurons")
            ),
        ),
    )


def list_recovery(statistics: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what networks recover from their circuits: a row per kind of circuit, measure and network.

    Parameters
    ----------
    statistics
        Pooled statistics of the sweeps that hold out every other direction, by mechanism.

    Returns
    -------
    pandas.DataFrame
        ``mechanism``, ``measure``, ``sampled``, ``mean`` with ``low`` and ``high`` (95 %), ``circuit`` (mean
        of the same number, NaN for predictions) and ``recovered``: for predictions, whether the interval is
        above 0.9; for numbers of the network, whether that of the circuit is within 0.1 of the interval.
    """
    rows = []
    for kind, found in statistics.items():
        for level in ("0", str(FitConfig(sampled=SAMPLED).sampled)):
            own = found[found["sampled"] == level].set_index("score")
            for score in (*PREDICTED, *MEASURED_OF_BOTH):
                row: dict[Hashable, Any] = own.loc[score].to_dict()
                mean, low, high = (float(row[name]) for name in ("mean", "mean_low", "mean_high"))
                of_both = score in MEASURED_OF_BOTH
                circuit = float(own["mean"].to_dict()[f"{score}, circuit"]) if of_both else math.nan
                recovered = low - 0.1 <= circuit <= high + 0.1 if of_both else low > GOOD
                rows.append((kind, score, level, mean, low, high, circuit, recovered))
    columns = ["mechanism", "measure", "sampled", "mean", "low", "high", "circuit", "recovered"]
    return pd.DataFrame(rows, columns=columns)


def _measure(rows: pd.DataFrame, score: str) -> Evidence:
    """Return a score that should be good by itself."""
    row: dict[Hashable, Any] = rows.loc[score].to_dict()
    limits = row["mean"], row["mean_low"], row["mean_high"]
    holds = row["mean_low"] > GOOD
    return Evidence(score, *limits, math.nan, math.nan, 0, int(row["fits"]), holds=holds)


def _compare(rows: pd.DataFrame, score: str) -> Evidence:
    """Return a score that should be better than without sampled neurons."""
    row: dict[Hashable, Any] = rows.loc[score].to_dict()
    limits = row["difference"], row["low"], row["high"]
    counts = int(row["better"]), int(row["seeds"])
    return Evidence(score, *limits, row["baseline"], row["effect"], *counts, holds=row["low"] > 0)


def _draw_claim(claim: Claim, cells: pd.DataFrame, statistics: pd.DataFrame, path: Path) -> None:
    """Draw the evidence for a claim, circuit by circuit."""
    levels = ["0", str(FitConfig(sampled=SAMPLED).sampled)]
    chosen = statistics[statistics["sampled"].isin(levels)]
    save(plot_circuits(cells, chosen, [one.score for one in claim.evidence]), path)


def _draw(folder: Path) -> None:
    """Draw the first circuit and its networks."""
    (folder / "figures").mkdir(exist_ok=True)
    first = [c for c in list_finished(folder / "between") if c.source == "circuit_0"]

    def find(level: object) -> Cell | None:
        return next((cell for cell in first if cell.config.sampled == level), None)

    for name, level in (("outputs_only", 0), ("with_dynamics", FitConfig(sampled=SAMPLED).sampled)):
        cell = find(level)
        if cell is not None:
            pair = rebuild(folder / "between", cell)
            save(plot_traces(*pair), folder / "figures" / f"traces_{name}.png")
            save(plot_rotations(*pair), folder / "figures" / f"rotations_{name}.png")
