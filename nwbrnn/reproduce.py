"""The three claims of Salatiello & Giese 2020 (arXiv:2005.02211), tested on simulated circuits."""

import math
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.formats import write_teacher
from nwbrnn.plot import save
from nwbrnn.report import plot_rotations, plot_traces
from nwbrnn.storage.atomic import write_json
from nwbrnn.sweep import Cell, list_finished, rebuild, run_sweep, write_results
from nwbrnn.sweep.run import Progress
from nwbrnn.teacher import TeacherConfig, simulate_teacher

SAMPLED = "25%"  # of the neurons, where one number is judged
GOOD = 0.9  # R² from which on outputs and sampled neurons count as reproduced; ours

LEVELS: tuple[int | str, ...] = (0, "5%", "10%", SAMPLED, "50%", "100%")
QUICK_LEVELS: tuple[int | str, ...] = (0, "5%", SAMPLED)
N_TEACHERS, N_TEACHERS_QUICK = 10, 3
N_TEACHERS_EACH = 3  # where each of 16 directions is held out in turn

TEACHERS, CLAIMS = "teachers", "claims.json"


@dataclass(frozen=True)
class Evidence:
    """One number for a claim.

    Attributes
    ----------
    score
        What was measured, on held-out data.
    value, low, high
        Mean with 95 % interval: of the student, or of its paired difference to the one without sampled
        neurons.
    baseline
        Mean without sampled neurons; NaN where the value is not a difference.
    effect
        Cohen's d_z of the difference.
    better, seeds
        In how many of the teachers the difference is in favour.
    holds
        Whether the interval is on the right side of what is needed.
    """

    score: str
    value: float
    low: float
    high: float
    baseline: float
    effect: float
    better: int
    seeds: int
    holds: bool


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and what was found."""

    text: str
    evidence: tuple[Evidence, ...]

    @property
    def holds(self) -> bool:
        """Whether all of its evidence does."""
        return all(one.holds for one in self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text, NaN as ``None``, for JSON."""
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
"""Every other direction held out; trials held out; fewer trials; a longer time than trained; each direction
held out in turn.
"""


def reproduce(
    folder: str | Path,
    *,
    quick: bool = False,
    scheduler: str | None = None,
    progress: Callable[[str], Progress | None] = lambda _: None,
) -> tuple[Claim, ...]:
    """Build teachers, fit students to them, and judge the three claims.

    A teacher is a stability-optimised circuit of 200 neurons that reaches in 16 directions, written as NWB
    and read back; each seed has another circuit. Everything is kept in the folder, and what is finished is
    not repeated.

    Parameters
    ----------
    folder
        Where teachers, sweeps, figures and ``claims.json`` go.
    quick
        Three teachers instead of ten, fewer numbers of sampled neurons, no direction by direction.
    scheduler
        See :func:`nwbrnn.sweep.run_sweep`.
    progress
        Called with the name of each part; returns what is called after each of its fits.

    Returns
    -------
    tuple of Claim
        The three claims.

    Raises
    ------
    ConfigError, ExportError
        As :func:`nwbrnn.sweep.run_sweep`.
    """
    folder = Path(folder)
    files = create_teachers(folder / TEACHERS, N_TEACHERS_QUICK if quick else N_TEACHERS)
    statistics: dict[str, pd.DataFrame] = {}
    for part in PARTS:
        if quick and part.only_full:
            continue
        grid = part.grid
        if quick and part.name == "between":
            grid = grid.model_copy(update={"sampled": QUICK_LEVELS})
        table = run_sweep(
            files[:N_TEACHERS_EACH] if part.name == "each" else files,
            folder / part.name,
            grid,
            configs=(ReadConfig(), FitConfig()),
            scheduler=scheduler,
            progress=progress(part.name),
        )
        statistics[part.name] = write_results(table, folder / part.name, pooled=True)
    _draw(folder)
    claims = judge(statistics["between"], statistics["trials"])
    about = [claim.to_dict() for claim in claims]
    write_json(about, folder / CLAIMS, overwrite=True)
    return claims


def create_teachers(folder: Path, n_teachers: int) -> list[Path]:
    """Simulate teachers and write them as NWB; those that exist are kept.

    Parameters
    ----------
    folder
        Made if needed.
    n_teachers
        Each has another circuit, readout and noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"teacher_{seed}.nwb" for seed in range(n_teachers)]
    for seed, file in enumerate(files):
        if not file.exists():
            write_teacher(simulate_teacher(TeacherConfig(seed=seed, n_directions=16)), file)
    return files


def judge(between: pd.DataFrame, trials: pd.DataFrame) -> tuple[Claim, ...]:
    """Return the claims with what the statistics say of them.

    Parameters
    ----------
    between
        Statistics with every other direction held out.
    trials
        Statistics with trials held out.
    """
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
    )


def _measure(rows: pd.DataFrame, score: str) -> Evidence:
    """Return a score that is to be good by itself."""
    row: dict[Hashable, Any] = rows.loc[score].to_dict()
    limits = row["mean"], row["mean_low"], row["mean_high"]
    holds = row["mean_low"] > GOOD
    return Evidence(score, *limits, math.nan, math.nan, 0, int(row["fits"]), holds=holds)


def _compare(rows: pd.DataFrame, score: str) -> Evidence:
    """Return a score that is to be better than without sampled neurons."""
    row: dict[Hashable, Any] = rows.loc[score].to_dict()
    limits = row["difference"], row["low"], row["high"]
    counts = int(row["better"]), int(row["seeds"])
    return Evidence(score, *limits, row["baseline"], row["effect"], *counts, holds=row["low"] > 0)


def _draw(folder: Path) -> None:
    """Draw the first teacher and its students."""
    (folder / "figures").mkdir(exist_ok=True)
    first = [c for c in list_finished(folder / "between") if c.source == "teacher_0"]

    def find(level: object) -> Cell | None:
        return next((cell for cell in first if cell.config.sampled == level), None)

    for name, level in (("outputs_only", 0), ("with_dynamics", FitConfig(sampled=SAMPLED).sampled)):
        cell = find(level)
        if cell is not None:
            pair = rebuild(folder / "between", cell)
            save(plot_traces(*pair), folder / "figures" / f"traces_{name}.png")
            save(plot_rotations(*pair), folder / "figures" / f"rotations_{name}.png")
