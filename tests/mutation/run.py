"""Mutation testing: small faults in the numerical core, one at a time, and whether a quick test fails.

    python tests/mutation/run.py --count 320 --seed 0

Mutants are drawn at random from all that :mod:`mutants` finds in ``TARGETS``. A coverage run, repeated for
what has changed, tells which tests reach which line. For each mutant a process is forked from one that has
imported the large libraries but not nwbrnn; it runs the tests that reach the line, the quickest first, until
one fails. ``--seconds`` bounds how long each mutant is tested, which can only lower the score; ``--again``
then gives the survivors all of their tests. A mutant that no test reaches has survived. ``--resume`` goes on
with a run that was ended. Two copies of the working tree in ``--work``, one for each fork, hold the mutated
file, so that processes which tests start see the mutant too; numba compiles mutants of compiled code anew.
"""

import argparse
import ast
import collections
import gc
import hashlib
import importlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from mutants import Mutant, list_mutants

ROOT = Path(__file__).resolve().parents[2]
READER_RULES = (
    "discovery", "trials", "rules/trials", "rules/windows", "times", "clock", "strange_clocks", "series",
    "rules/objects", "session",
    "units", "binned", "plan", "neurons", "task", "vocabulary",
)  # fmt: skip
TARGETS = (
    *(
        f"nwbrnn/{part}/*.py"
        for part in ("losses", "evaluation", "preprocessing", "training", "models", "mechanism")
    ),
    "nwbrnn/sweep/statistics.py",
    *(f"nwbrnn/readers/{name}.py" for name in READER_RULES),
)
READING = (
    "reading", "layouts", "values", "what_labs_write", "attacks", "reading_attacks", "doctor", "inspect",
    "config_file", "bad_input",
)  # fmt: skip
TESTS = ("tests/unit", "tests/property", *(f"tests/integration/test_{name}.py" for name in READING))
LONG = (
    "test_kills_at",
    "have_a_checkpoint_each",
    "cross_validation_end_to_end",
    "interrupt_from_the_keyboard",
)
LONG += ("dataset_comes_back_identical", "needs_no_torch", "imported_only_with_plot")
COMPILED = {  # coverage sees only who calls compiled code
    f"nwbrnn/models/{name}.py": "nwbrnn/models/scan.py" for name in ("activations", "loops", "products")
}
LIBRARIES = (
    "pytest", "hypothesis", "torch", "torch._dynamo", "numba", "numba.core.typing", "pynwb", "hdmf", "h5py",
    "xarray", "pandas", "scipy.signal", "scipy.stats", "scipy.linalg", "scipy.optimize", "joblib", "pydantic",
    "matplotlib.pyplot", "typer", "rich", "h5netcdf", "distributed", "safetensors", "yaml",
)  # fmt: skip
OPTIONS = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "--tb=line",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
FORKS = 2
BROKEN = 99  # of this program, not a mutant


def pytest_collection_modifyitems(items: list) -> None:
    """Measure tests that are marked ``no_cover``, too: each of them may find a mutant."""
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name != "no_cover"]


class Recorder:
    """A pytest plugin: how long each test took, with its fixtures, and which failed first.

    It runs no further tests after so many seconds of processor time.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.failed: str | None = None
        self.end = time.process_time() + most
        self.stopped = False

    def pytest_runtest_logreport(self, report) -> None:  # noqa: ANN001
        self.seconds[report.nodeid] += report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_runtest_teardown(self, item) -> None:  # noqa: ANN001
        if time.process_time() > self.end and not self.failed:
            self.stopped = True
            item.session.shouldstop = "enough"

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
    parser.add_argument("--seconds", type=float, default=math.inf, help="of tests for each mutant")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run with --work found")
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
        old = {identify(r) for r in json.loads(options.again.read_text()) if r["status"] == "survived"}
        drawn = [m for m in everything if identify(m.describe((ROOT / m.file).read_text())) in old]
    found = options.work / "mutants.json"
    known = json.loads(found.read_text()) if options.resume else []
    before = {identify(r) for r in known}
    drawn = [m for m in drawn if identify(m.describe((ROOT / m.file).read_text())) not in before]
    print(f"{len(drawn)} of {len(everything)} mutants, seed {options.seed}, {len(seconds)} tests", flush=True)
    waiting = [(m, choose_tests(m, reach, seconds)) for m in drawn]
    for result in run_all(waiting, slots, seconds, options.work, most=options.seconds):
        known.append(result)
        found.write_text(json.dumps(known, indent=1))
    report(known)
    print(f"All mutants: {found}")


def identify(result: dict) -> tuple:
    """Return what a mutant is, the same in every run on the same code."""
    return tuple(result[name] for name in ("file", "line", "before", "after"))


# ------------------------------------------------------------------ which tests reach what


def measure(slots: list[Path], work: Path) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Return by file and line the tests that run it, and how long each takes; bring the copies up to date.

    What is known of a file of tests is kept as long as it and everything but tests stay the same.
    """
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    content = {n: (ROOT / n).read_bytes() for n in sorted(listed.splitlines()) if (ROOT / n).is_file()}
    is_test = {name: name.startswith("tests/") and Path(name).name.startswith("test_") for name in content}
    mutation = str(Path(__file__).parent.relative_to(ROOT))
    code = [n for n in content if n.endswith(".py") and not is_test[n] and not n.startswith(mutation)]
    basis = _hash("".join(n + _hash(content[n]) for n in code))
    files = {n: _hash(content[n]) for n in content if is_test[n] and n.startswith(TESTS)}
    stored = work / "reach.json"
    known = json.loads(stored.read_text()) if stored.exists() else {"basis": ""}
    if known["basis"] != basis:
        known = {"basis": basis, "files": {}, "seconds": {}, "lines": {}}
    for slot in slots:
        for name, value in content.items():
            if not (slot / name).exists() or (slot / name).read_bytes() != value:
                (slot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, slot / name)
    changed = [name for name, digest in files.items() if known["files"].get(name) != digest]
    if changed:
        kept = tuple(f"{name}::" for name in files if name not in changed)
        found = _cover(slots[0], work, changed)
        seconds = {t: s for t, s in known["seconds"].items() if t.startswith(kept)} | found["seconds"]
        lines = found["lines"]
        for file, of in known["lines"].items():
            for n, tests in of.items():
                lines.setdefault(file, {}).setdefault(n, []).extend(t for t in tests if t.startswith(kept))
        known = {"basis": basis, "files": files, "seconds": seconds, "lines": lines}
        stored.write_text(json.dumps(known))
    lines = {file: {int(n): set(t) for n, t in of.items()} for file, of in known["lines"].items()}
    return lines, known["seconds"]


def _hash(source: str | bytes) -> str:
    """Return a hash of what a source does, whatever its layout and comments."""
    meaning = ast.dump(ast.parse(source)) if isinstance(source, bytes) else source
    return hashlib.sha256(meaning.encode()).hexdigest()


def _cover(slot: Path, work: Path, files: list[str]) -> dict:
    """Run the quick tests of some files once with coverage."""
    settings, data, times = work / "coveragerc", work / "coverage", work / "seconds.json"
    settings.write_text("[run]\nsource = nwbrnn\n")
    data.unlink(missing_ok=True)
    code = (
        f"import json, sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(slot)!r}];"
        "import pytest, run;"
        "recorder = run.Recorder(); code = pytest.main(sys.argv[1:], plugins=[recorder]);"
        f"json.dump(recorder.seconds, open({str(times)!r}, 'w')); sys.exit(code)"
    )
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "run",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "-n",
        str(FORKS),
        "--dist",
        "loadfile",
        "-k",
        " and ".join(f"not {name}" for name in LONG),
    ]
    options += ["--cov=nwbrnn", "--cov-context=test", f"--cov-config={settings}", "--cov-report="]
    environment = os.environ | {"COVERAGE_FILE": str(data), "PYTHONPATH": str(slot), "OMP_NUM_THREADS": "1"}
    environment["NUMBA_CACHE_DIR"] = str(work / "numba" / slot.name)
    command = [sys.executable, "-c", code, *options, *files]
    if subprocess.run(command, cwd=slot, env=environment, check=False).returncode not in (0, 5):
        raise SystemExit("the tests fail without any mutant")
    from coverage import CoverageData

    coverage = CoverageData(str(data))
    coverage.read()
    seconds = json.loads(times.read_text())
    lines: dict[str, dict[str, set[str]]] = {}
    for path in coverage.measured_files():
        of = lines.setdefault(str(Path(path).relative_to(slot)), {})
        for line, contexts in coverage.contexts_by_lineno(path).items():
            for context in filter(None, contexts):
                test, _, phase = context.rpartition("|")
                module = test.partition("::")[0]  # what a fixture runs, all tests of its module may see
                of.setdefault(str(line), set()).update(
                    [test] if phase == "run" else [t for t in seconds if t.startswith(f"{module}::")]
                )
    return {
        "lines": {f: {n: sorted(t) for n, t in of.items()} for f, of in lines.items()},
        "seconds": seconds,
    }


def choose_tests(
    mutant: Mutant, reach: dict[str, dict[int, set[str]]], seconds: dict[str, float]
) -> list[str]:
    """Return the tests that run the statement of a mutant, outside functions those that run its file."""
    lines = reach.get(COMPILED.get(mutant.file, mutant.file), {})
    inside = mutant.in_function and mutant.file not in COMPILED
    chosen = [t for n, t in lines.items() if not inside or mutant.lines[0] <= n <= mutant.lines[1]]
    return sorted(set().union(*chosen) & seconds.keys(), key=lambda test: (seconds[test], test))


# ------------------------------------------------------------------ running them


def run_all(
    drawn: list[tuple[Mutant, list[str]]],
    slots: list[Path],
    seconds: dict[str, float],
    work: Path,
    *,
    most: float,
) -> Iterator[dict]:
    """Run every mutant, as many at once as there are copies, and yield what becomes of each."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg"}
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        importlib.import_module(name)
    import hypothesis

    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # the smallest example is of no interest
    hypothesis.settings.register_profile("mutants", phases=phases)
    hypothesis.settings.load_profile("mutants")
    gc.collect()
    gc.freeze()  # what is there before a fork need not be looked at in each
    waiting = [(i, mutant, tests) for i, (mutant, tests) in enumerate(drawn)][::-1]
    # first no mutant at all, which the quickest tests have to survive
    none = Mutant(drawn[0][0].file, 0, 0, "", "none", (0, 0), in_function=False)
    waiting.append((-1, none, sorted(seconds, key=seconds.__getitem__)[:100]))
    free, running, n_done = list(slots), {}, 0
    while waiting or running:
        while waiting and free:
            number, mutant, tests = waiting.pop()
            about = mutant.describe((ROOT / mutant.file).read_text()) | {"tests": len(tests)}
            if not tests:
                n_done += 1
                yield about | {"status": "survived", "by": "no test reaches it"}
                continue
            slot = free.pop()
            limit = 60 + int(5 * sum(seconds[test] for test in tests))  # of processor time [s]
            child = _fork(mutant, tests, slot, work, limits=(limit, most))
            running[child] = (number, mutant, about, slot, time.monotonic() + 30 * limit)
        time.sleep(0.05)
        for child, (number, mutant, about, slot, limit) in list(running.items()):
            done, code, used = os.wait4(child, os.WNOHANG)
            late = not done and time.monotonic() > limit
            if late:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
            if done or late:
                note = slot / "failed.txt"
                ended = -1 if late else os.waitstatus_to_exitcode(code)
                if ended == BROKEN or (number < 0 and ended):
                    raise SystemExit((slot / "output.txt").read_text())
                survived = ended == 0
                by = note.read_text() if note.exists() else "timeout" if ended < 0 else "died"
                shutil.copy2(ROOT / mutant.file, slot / mutant.file)
                free.append(slot)
                del running[child]
                if number < 0:
                    continue
                n_done += 1
                status = "survived" if survived else "killed"
                line = f"{status} {about['file']}:{about['line']} {by} ({used.ru_utime:.1f} s)"
                print(f"{n_done}/{len(drawn)} {line}", flush=True)
                yield about | {"status": status, "by": "" if survived else by}


def _fork(mutant: Mutant, tests: list[str], slot: Path, work: Path, *, limits: tuple[int, float]) -> int:
    """Start the tests of a mutant in a process of its own, and return its number.

    It is killed after the first number of seconds of processor time, and begins no test after the second.
    """
    path = slot / mutant.file
    path.write_text(mutant.apply((ROOT / mutant.file).read_text()))
    os.utime(path, (0, 0))  # compiled files that Python and numba keep are of another time
    (slot / "failed.txt").unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    code = BROKEN
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limits[0], limits[0]))
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

        recorder = Recorder(limits[1])
        code = int(pytest.main([*OPTIONS, *tests], plugins=[recorder]))
        code = 0 if recorder.stopped else code
        if code:
            (slot / "failed.txt").write_text(recorder.failed or f"pytest ended with {code}")
    except BaseException:
        traceback.print_exc()
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
