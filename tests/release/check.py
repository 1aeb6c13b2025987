"""Build the packages, install the wheel without extras in a new environment, and try every command there.

    python tests/release/check.py

A command has to work, or to name the extra that it needs. Nothing of the source tree is seen by the installed
package: everything runs in an empty folder. What the wheel requires is not downloaded again: it is taken from
the environment that this program runs in, so that has to be one with the project's dependencies.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = (
    "aiohttp",
    "dandi",
    "dask",
    "distributed",
    "dsa-metric",
    "hdmf-zarr",
    "nwbinspector",
    "pynapple",
    "s3fs",
    "zarr",
)
IN_SDIST = (
    "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "constraints.txt",
    "pyproject.toml", "docs/architecture.md", "tests/conftest.py", "tests/release/check.py",
    "example_data/teacher.nwb", "benchmarks/epoch.py",
)  # fmt: skip
LARGEST = 3_000_000  # bytes of a file in a package

EXAMPLE = ROOT / "example_data" / "teacher.nwb"
SMALL = "--set hidden=20 --set epochs=3 --set patience=3 --set processes=1"

# command line, exit code, what it prints (a pattern)
COMMANDS = (
    ("--version", 0, r"^nwbrnn \d+\.\d+"),
    ("--help", 0, "From an NWB file"),
    ("config", 0, "hidden: 200"),
    ("inspect {example}", 0, "acquisition/EMG"),
    ("doctor {example}", 0, ""),
    ("read {example} -o data.nc", 0, "Wrote data.nc"),
    ("fit {example} -o fit.nwb --sampled 10 --hidden 20 --epochs 3 --config fit.yaml", 0, "Wrote fit.nwb"),
    ("evaluate fit.nwb", 0, "differ by at most"),
    ("perturb fit.nwb", 0, "response correlation"),
    ("report fit.nwb -o report.html", 0, "report.html"),
    ("export fit.nwb --source {example} --to copy -o copy.nwb", 0, "Wrote the fit into copy.nwb"),
    ("refit copy.nwb", 0, "repeated exactly"),
    ("sweep {example} -o sweep --sampled 0,5 --seeds 1 --resamples 0 " + SMALL, 0, "Wrote sweep"),
    ("dandi dandiset --check", 0, "1 checked"),
    ("reproduce --help", 0, "--quick"),  # the real thing takes minutes
    ("simulate -o teacher.nwb --neurons 60 --directions 3 --trials 2", 0, "Wrote teacher.nwb"),
    ("convert run.npz -o own.nwb", 0, "Wrote own.nwb"),
    # what needs an extra names it
    ("read {example} -o data.zarr", 2, r"pip install '?(nwbrnn\[zarr\]|zarr)"),
    ("inspect store.nwb.zarr", 2, r"pip install 'nwbrnn\[zarr\]'"),
    ("inspect http://127.0.0.1:9/x.nwb", 2, r"pip install 'nwbrnn\[remote\]'"),
    ("inspect s3://bucket/x.nwb", 2, r"pip install 'nwbrnn\[s3\]'"),
    ("inspect dandi://000001/x.nwb", 2, r"pip install 'nwbrnn\[dandi\]'"),
    ("sweep {example} -o cluster --scheduler tcp://127.0.0.1:9", 2, r"pip install 'nwbrnn\[slurm\]'"),
)

LIBRARY = """
import numpy as np, xarray as xr, nwbrnn
rng = np.random.default_rng(0)
np.savez("run.npz", outputs=rng.random((6, 20, 2)), inputs=rng.random((6, 20, 1)),
         rates=rng.uniform(1, 50, (6, 20, 8)), bin_size=0.02)
assert all(getattr(nwbrnn, name) for name in nwbrnn.__all__)
with xr.open_datatree({example!r}, engine="nwb") as tree:
    assert tree["acquisition/EMG"]["data"].sizes["time"] > 100
try:
    nwbrnn.to_pynapple(nwbrnn.read_nwb({example!r}))
except nwbrnn.NwbrnnError as error:
    assert "nwbrnn[pynapple]" in str(error), error
else:
    raise AssertionError("pynapple is not an extra")
"""


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a program that has to succeed, and return what it printed."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def tell(text: str) -> None:
    print(f"{time.monotonic() - BEGIN:5.0f} s  {text}", flush=True)


def create_environment(folder: Path) -> tuple[Path, tuple[object, ...]]:
    """Return the programs of a new environment, and the pip of this one, for that one."""
    venv.create(folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python")
    return programs, pip


def install(pip: tuple[object, ...], *arguments: object) -> None:
    run(*pip, "install", "--quiet", *arguments)


def find_required(requirements: list[str]) -> dict[str, Distribution]:
    """Return the distributions of this environment that are required, and those that they require."""
    found: dict[str, Distribution] = {}
    seen, pending = set(), {(text, "") for text in requirements}
    while pending:
        seen.add(one := pending.pop())
        needed, extra = Requirement(one[0]), one[1]
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            installed = distribution(needed.name)
            found[installed.metadata["Name"]] = installed
            texts = installed.requires or ()
            pending |= {(text, extra) for text in texts for extra in ("", *needed.extras)} - seen
    return found


def link_files(one: Distribution, site: Path) -> None:
    """Put the files of a distribution, with what is compiled of them, into another environment."""
    for file in one.files or ():
        if ".." in file.parts:  # a program
            continue
        place = Path(str(one.locate_file(file)))
        compiled = Path(cache_from_source(str(place))) if file.suffix == ".py" else place
        for source in {place, compiled}:
            target = site / file.parent / source.relative_to(place.parent)
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(source)
                except OSError:  # on another disk
                    shutil.copy2(source, target)


def build(folder: Path) -> tuple[Path, Path]:
    """Build sdist and, from it, the wheel; check what their metadata say."""
    tools, pip = create_environment(folder / "tools")
    install(pip, "-c", ROOT / "constraints.txt", "-r", ROOT / "tests/release/requirements.txt")
    run(tools / "python", "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
    (sdist,), (wheel,) = (list((folder / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    run(tools / "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def list_tracked(*paths: str) -> set[str]:
    return set(run("git", "ls-files", "-z", *paths).split("\0")) - {""}


def check_sdist(sdist: Path) -> None:
    """Check that the sdist holds the project, and nothing else."""
    with tarfile.open(sdist) as archive:
        sizes = {m.name.partition("/")[2]: m.size for m in archive.getmembers() if m.isfile()}
    assert not set(IN_SDIST) - set(sizes), sorted(set(IN_SDIST) - set(sizes))
    foreign = set(sizes) - list_tracked() - {"PKG-INFO"}
    assert not foreign, f"files that are not part of the project: {sorted(foreign)[:10]}"
    large = {name: size for name, size in sizes.items() if size > LARGEST}
    assert not large, large


def check_wheel(wheel: Path) -> list[str]:
    """Check that the wheel holds the package with its types and data files only; return what it requires."""
    with zipfile.ZipFile(wheel) as archive:
        names = {info.filename for info in archive.infolist()}
        large = [info.filename for info in archive.infolist() if info.file_size > LARGEST]
        entry_points, metadata = (
            archive.read(next(n for n in names if n.endswith(f".dist-info/{name}"))).decode()
            for name in ("entry_points.txt", "METADATA")
        )
    tracked = list_tracked("nwbrnn")
    assert not tracked - names, f"missing in the wheel: {sorted(tracked - names)}"
    assert "nwbrnn/py.typed" in names
    others = {name for name in names - tracked if ".dist-info/" not in name}
    assert not others, sorted(others)
    assert not large, large
    assert "nwb = nwbrnn.readers.engine:NwbBackend" in entry_points
    return email.message_from_string(metadata).get_all("Requires-Dist", [])


def check_commands(programs: Path, folder: Path) -> None:
    """Check every command where nothing but the wheel and its dependencies is installed."""
    names = run(
        programs / "python",
        "-c",
        "from nwbrnn.cli.main import COMMANDS as c; print(*sum(map(list, c.values()), []))",
    )
    untried = set(names.split()) - {line.split()[0] for line, _, _ in COMMANDS}
    assert not untried, f"add to COMMANDS of {__file__}: {sorted(untried)}"
    run(
        programs / "python",
        "-W",
        "error::DeprecationWarning:nwbrnn",
        "-c",
        LIBRARY.format(example=str(EXAMPLE)),
        cwd=folder,
    )
    (folder / "fit.yaml").write_text(run(programs / "nwbrnn", "config"))
    asset = folder / "dandiset" / "sub-A" / "sub-A.nwb"
    asset.parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, asset)
    store = folder / "store.nwb.zarr"
    store.mkdir()
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    for line, code, pattern in COMMANDS:
        command = [str(programs / "nwbrnn"), *line.format(example=EXAMPLE).split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        printed = done.stdout + done.stderr
        if done.returncode != code or not re.search(pattern, printed) or "Traceback" in printed:
            sys.exit(f"nwbrnn {line}: expected {code} and {pattern!r}, but got {done.returncode}:\n{printed}")
        tell(f"nwbrnn {line.format(example='EXAMPLE')}")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="nwbrnn-release-"))
    try:
        sdist, wheel = build(folder)
        check_sdist(sdist)
        requirements = check_wheel(wheel)
        tell(
            f"{sdist.name} ({sdist.stat().st_size:,} bytes) and {wheel.name} ({wheel.stat().st_size:,} bytes)"
        )
        programs, pip = create_environment(folder / "clean")
        site = Path(
            run(programs / "python", "-c", "import sysconfig as s; print(s.get_path('purelib'))").strip()
        )
        for one in find_required(requirements).values():
            link_files(one, site)
        install(pip, "--no-deps", wheel)
        run(*pip, "check")
        installed = {one.metadata["Name"].lower() for one in distributions(path=[str(site)])}
        assert "nwbrnn" in installed
        present = sorted(installed & set(EXTRAS))
        assert not present, f"part of an extra, but installed without one: {present}"
        tell("installed with core dependencies only")
        work = folder / "work"
        work.mkdir()
        check_commands(programs, work)
    finally:
        shutil.rmtree(folder)
    tell("release check passed")


if __name__ == "__main__":
    BEGIN = time.monotonic()
    main()
