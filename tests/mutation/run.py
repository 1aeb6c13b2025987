"""Mutation testing: put small faults into the numerical core, one at a time, and see whether a quick test fails.

    python tests/mutation/run.py --count 400 --seed 0

Mutants are drawn at random from all that :mod:`mutants` finds in ``TARGETS``. A coverage run tells which tests reach
which line (once for each state of the sources; kept in ``--work``). For each mutant a process is forked from one that has
imported the large libraries but not nwbrnn, and runs the tests that reach its line, the quickest first, until one fails.
A mutant that no test reaches has survived. Two copies of the working tree, one for each fork, hold the mutated file, so
that processes which tests start see the mutant too; numba compiles mutants of compiled code anew.
"""

import argparse
import collections
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import Mutant, list_mutants

ROOT = Path(__file__).resolve().parents[2]
READER_RULES = (
    "discovery", "trials", "trial_choices", "times", "series", "choices", "units", "binned", "plan", "neurons", "task",
)  # fmt: skip
TARGETS = (
    *(f"nwbrnn/{part}/*.py" for part in ("losses", "evaluation", "preprocessing", "training", "models")),
    "nwbrnn/sweep/statistics.py",
    *(f"nwbrnn/readers/{name}.py" for name in READER_RULES),
)
READING = ("reading", "layouts", "values", "doctor", "inspect", "config_file", "bad_input")
TESTS = ("tests/unit", "tests/property", *(f"tests/integration/test_{name}.py" for name in READING))
LONG = (
    "test_kills_at",
    "have_a_checkpoint_each",
    "cross_validation_end_to_end",
    "interrupt_from_the_keyboard",
)
LONG += ("dataset_comes_back_identical", "needs_no_torch", "imported_only_with_plot")
COMPILED = {"nwbrnn/models/loops.py": "nwbrnn/models/scan.py"}  # coverage sees only who calls compiled code
LIBRARIES = (
    "pytest", "hypothesis", "torch", "torch._dynamo", "numba", "numba.core.typing", "pynwb", "hdmf", "h5py", "xarray", "pandas",
    "scipy.signal", "scipy.stats", "scipy.linalg", "scipy.optimize", "joblib", "matplotlib.pyplot", "pydantic", "typer", "rich",
    "h5netcdf", "distributed", "safetensors", "yaml",
)  # fmt: skip
FORKS = 2


class Recorder:
    """A pytest plugin: how long each test took, with its fixtures, and which failed first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.failed: str | None = None

    def pytest_runtest_logreport(self, report) -> None:  # noqa: ANN001
        self.seconds[report.nodeid] += report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report) -> None:  # noqa: ANN001
        if report.failed and self.failed is None:
            self.failed = report.nodeid or "import"


def main() -> None:
    """Draw mutants, run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "nwbrnn-mutants")
    parser.add_argument("--only", help="only mutants whose file:line contains this, all of them")
    parser.add_argument(
        "--again", type=Path, help="only the survivors that this JSON file of an earlier run lists"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    slots = [options.work / f"copy{i}" for i in range(FORKS)]
    reach, seconds = measure(slots, options.work)
    files = sorted(str(path.relative_to(ROOT)) for pattern in TARGETS for path in ROOT.glob(pattern))
    everything = [mutant for file in files for mutant in list_mutants(ROOT, file)]
    chosen = sorted(random.Random(options.seed).sample(range(len(everything)), options.count))
    drawn = [everything[i] for i in chosen]
    if options.only:
        drawn = [
            m
            for m in everything
            if options.only in f"{m.file}:{m.describe((ROOT / m.file).read_text())['line']}"
        ]
    if options.again:
        names = ("file", "line", "before", "after")
        old = {
            tuple(r[n] for n in names)
            for r in json.loads(options.again.read_text())
            if r["status"] == "survived"
        }
        described = [(m, m.describe((ROOT / m.file).read_text())) for m in everything]
        drawn = [m for m, about in described if tuple(about[n] for n in names) in old]
    print(f"{len(drawn)} of {len(everything)} mutants, seed {options.seed}, {len(seconds)} tests", flush=True)
    results = run_all(drawn, slots, reach, seconds, options.work)
    (options.work / "mutants.json").write_text(json.dumps(results, indent=1))
    report(results)
    print(f"All mutants: {options.work / 'mutants.json'}")


# ------------------------------------------------------------------ which tests reach what


def measure(slots: list[Path], work: Path) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Return by file and line the tests that run it, and how long each test takes; copy the tree if it is new."""
    names = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    ).split("\n")
    sources = {name: (ROOT / name).read_bytes() for name in names if name and (ROOT / name).is_file()}
    state = hashlib.sha256(
        b"".join(k.encode() + v for k, v in sorted(sources.items()) if k.endswith(".py"))
    ).hexdigest()
    stored = work / "reach.json"
    if not stored.exists() or json.loads(stored.read_text())["state"] != state:
        shutil.rmtree(slots[0], ignore_errors=True)
        for name in sources:
            (slots[0] / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, slots[0] / name)
        stored.write_text(json.dumps({"state": state} | _cover(slots[0], work)))
        for slot in slots[1:]:
            shutil.rmtree(slot, ignore_errors=True)
            shutil.copytree(slots[0], slot)
    found = json.loads(stored.read_text())
    lines = {file: {int(n): set(t) for n, t in of.items()} for file, of in found["lines"].items()}
    return lines, found["seconds"]


def _cover(slot: Path, work: Path) -> dict:
    """Run all quick tests once with coverage."""
    settings, data, times = work / "coveragerc", work / "coverage", work / "seconds.json"
    settings.write_text("[run]\nsource = nwbrnn\n")
    code = (
        "import json, sys; sys.path[:0] = [{here!r}, {root!r}]; import pytest, run; recorder = run.Recorder();"
        "code = pytest.main(sys.argv[1:], plugins=[recorder]); json.dump(recorder.seconds, open({times!r}, 'w'));"
        "sys.exit(code)"
    ).format(here=str(slot / "tests/mutation"), root=str(slot), times=str(times))
    options = [
        "-q",
        "-n",
        str(FORKS),
        "--dist",
        "loadfile",
        "--cov=nwbrnn",
        "--cov-context=test",
        f"--cov-config={settings}",
        "--cov-report=",
    ]
    options += ["-k", " and ".join(f"not {name}" for name in LONG)]
    environment = os.environ | {"COVERAGE_FILE": str(data), "PYTHONPATH": str(slot), "OMP_NUM_THREADS": "1"}
    environment["NUMBA_CACHE_DIR"] = str(work / "numba" / slot.name)
    command = [sys.executable, "-c", code, "-p", "no:cacheprovider", *options, *TESTS]
    if subprocess.run(command, cwd=slot, env=environment, check=False).returncode:
        raise SystemExit("the tests fail without any mutant")
    from coverage import CoverageData

    coverage = CoverageData(str(data))
    coverage.read()
    lines: dict[str, dict[int, set[str]]] = {}
    seconds = json.loads(times.read_text())
    for path in coverage.measured_files():
        of = lines.setdefault(str(Path(path).relative_to(slot)), {})
        for line, contexts in coverage.contexts_by_lineno(path).items():
            for context in filter(None, contexts):
                test, _, phase = context.rpartition("|")
                module = test.partition("::")[0]  # what a fixture runs, all tests of its module may see
                of.setdefault(line, set()).update(
                    [test] if phase == "run" else [t for t in seconds if t.startswith(f"{module}::")]
                )
    return {
        "lines": {f: {n: sorted(t) for n, t in of.items()} for f, of in lines.items()},
        "seconds": seconds,
    }


def choose_tests(
    mutant: Mutant, reach: dict[str, dict[int, set[str]]], seconds: dict[str, float]
) -> list[str]:
    """Return the tests that run the statement of a mutant; for one outside functions those that run its file."""
    lines = reach.get(COMPILED.get(mutant.file, mutant.file), {})
    inside = mutant.in_function and mutant.file not in COMPILED
    chosen = [t for n, t in lines.items() if not inside or mutant.lines[0] <= n <= mutant.lines[1]]
    return sorted(set().union(*chosen) & seconds.keys(), key=lambda test: (seconds[test], test))


# ------------------------------------------------------------------ running them


def run_all(
    drawn: list[Mutant], slots: list[Path], reach: dict, seconds: dict[str, float], work: Path
) -> list[dict]:
    """Run every mutant, as many at once as there are copies."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg"}
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        importlib.import_module(name)
    waiting = [(i, mutant, choose_tests(mutant, reach, seconds)) for i, mutant in enumerate(drawn)][::-1]
    free, running, results = list(slots), {}, {}
    while waiting or running:
        while waiting and free:
            number, mutant, tests = waiting.pop()
            about = mutant.describe((ROOT / mutant.file).read_text()) | {"tests": len(tests)}
            if not tests:
                results[number] = about | {"status": "survived", "by": "no test reaches it"}
                continue
            slot = free.pop()
            limit = time.monotonic() + 60 + 8 * sum(seconds[test] for test in tests)
            running[_fork(mutant, tests, slot, work)] = (number, mutant, about, slot, limit)
        time.sleep(0.05)
        for child, (number, mutant, about, slot, limit) in list(running.items()):
            done, code = os.waitpid(child, os.WNOHANG)
            late = not done and time.monotonic() > limit
            if late:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            if done or late:
                note = slot / "failed.txt"
                survived = done and os.waitstatus_to_exitcode(code) == 0
                by = "timeout" if late else note.read_text() if note.exists() else "died"
                results[number] = about | {
                    "status": "survived" if survived else "killed",
                    "by": "" if survived else by,
                }
                shutil.copy2(ROOT / mutant.file, slot / mutant.file)
                free.append(slot)
                del running[child]
                print(
                    f"{len(results)}/{len(drawn)} {results[number]['status']} {about['file']}:{about['line']} {by}",
                    flush=True,
                )
    return [results[number] for number in sorted(results)]


def _fork(mutant: Mutant, tests: list[str], slot: Path, work: Path) -> int:
    """Start the tests of a mutant in a process of its own, and return its number."""
    path = slot / mutant.file
    path.write_text(mutant.apply((ROOT / mutant.file).read_text()))
    os.utime(path, (0, 0))  # compiled files that Python and numba keep are of another time
    (slot / "failed.txt").unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        output = os.open(slot / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(slot)
        cache = tempfile.mkdtemp(dir=work) if mutant.file in COMPILED else str(work / "numba" / slot.name)
        os.environ |= {"PYTHONPATH": str(slot), "NUMBA_CACHE_DIR": cache}
        import numba

        numba.config.CACHE_DIR = cache
        sys.path[0] = str(slot)
        import pytest

        recorder = Recorder()
        code = int(
            pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests], plugins=[recorder])
        )
        if code:
            (slot / "failed.txt").write_text(recorder.failed or f"pytest ended with {code}")
    finally:
        sys.stdout.flush()
        os._exit(code)


def report(results: list[dict]) -> None:
    """Print survivors, and counts by package."""
    table: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for result in results:
        package = result["file"].split("/")[1]
        table[package][result["status"]] += 1
        table["all"][result["status"]] += 1
        if result["status"] == "survived":
            print(f"\n{result['file']}:{result['line']} ({result['kind']}; {result['tests']} tests)")
            print(f"  - {result['before']}\n  + {result['after']}")
    print(f"\n{'package':<16}{'mutants':>8}{'killed':>8}{'score':>8}")
    for package, counts in table.items():
        print(
            f"{package:<16}{counts.total():>8}{counts['killed']:>8}{counts['killed'] / counts.total():>8.1%}"
        )


if __name__ == "__main__":
    main()
