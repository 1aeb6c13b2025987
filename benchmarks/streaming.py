"""What is fetched from a server to look into a file: requests and bytes, for several readers.

The file has 16 raw EMG channels at 1 kHz for 20 minutes, 100 units and 200 trials, about 40 MB, on a server
of this computer. Each reader, in a process of its own and after its imports, opens it, reads the first value
of the EMG, and then one trial's window. Stops if the readers disagree.

    python benchmarks/streaming.py
"""

import importlib
import importlib.util
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from large_files import (
    GO,
    add_emg,
    add_units,
    create_nwbfile,
    get_starts,
    list_versions,
    make_alone,
    temporary_folder,
    write,
)
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from servers import Server, serve_folder

N_CHANNELS, RATE, DURATION, N_UNITS, N_TRIALS = 16, 1000.0, 1200.0, 100, 200
TRIAL = 150  # the one to read
WINDOW = (-0.4, 1.5)
MEGABYTE = 1e6

Steps = Generator[NDArray[np.generic]]


def make_file(path: Path) -> None:
    """Write the file."""
    nwbfile = create_nwbfile(N_TRIALS)
    add_emg(nwbfile, N_CHANNELS, RATE, DURATION)
    add_units(nwbfile, N_UNITS, N_UNITS * 5000, DURATION)
    write(nwbfile, path)


def get_window() -> tuple[float, float]:
    """Return start and stop of the trial to read [s]."""
    go = float(get_starts(N_TRIALS)[TRIAL]) + GO
    return go + WINDOW[0], go + WINDOW[1]


def stream_dataset(url: str) -> Steps:
    """Read with ``xarray.open_dataset``."""
    import xarray as xr

    with xr.open_dataset(url, engine="nwb", group="acquisition/EMG") as ds:
        yield ds["data"][0].values
        yield ds["data"].sel(time=slice(*get_window())).values


def stream_tree(url: str) -> Steps:
    """Read with ``xarray.open_datatree``."""
    import xarray as xr

    with xr.open_datatree(url, engine="nwb") as tree:
        emg = tree["acquisition/EMG"].to_dataset()["data"]
        yield emg[0].values
        yield emg.sel(time=slice(*get_window())).values


def stream_nwbfile(url: str) -> Steps:
    """Read with ``nwbrnn.storage.open_nwb``."""
    from nwbrnn.storage import open_nwb

    with open_nwb(url) as nwbfile:
        yield from _read(nwbfile)


def stream_pynwb(url: str) -> Steps:
    """Read with ``pynwb.read_nwb``."""
    import pynwb

    yield from _read(pynwb.read_nwb(url))


def stream_fsspec(url: str) -> Steps:
    """Read as the documentation of pynwb shows: fsspec with its defaults."""
    import fsspec
    import h5py
    from pynwb import NWBHDF5IO

    with fsspec.open(url, "rb") as stream, h5py.File(stream) as file, NWBHDF5IO(file=file) as io:
        yield from _read(io.read())


def stream_remfile(url: str) -> Steps:
    """Read as the documentation of pynwb shows: remfile."""
    import h5py
    import remfile
    from pynwb import NWBHDF5IO

    with h5py.File(remfile.File(url)) as file, NWBHDF5IO(file=file) as io:
        yield from _read(io.read())


def _read(nwbfile: Any) -> Steps:
    """Read the first value and the window of an open file of pynwb."""
    series = nwbfile.acquisition["EMG"]
    yield series.data[0] * series.conversion
    first, last = (round(t * series.rate) for t in get_window())
    yield series.data[first : last + 1] * series.conversion


READERS: dict[str, Callable[[str], Steps]] = {
    "xr.open_dataset": stream_dataset,
    "xr.open_datatree": stream_tree,
    "nwbrnn open_nwb": stream_nwbfile,
    "pynwb.read_nwb": stream_pynwb,
    "pynwb, fsspec": stream_fsspec,
    "pynwb, remfile": stream_remfile,
}
TARGETS = {"xr.open_dataset": (6, 5.0, 3.0)}


def run_reader(name: str, url: str) -> None:
    """Read once, waiting for the other process after each step."""
    warnings.simplefilter("ignore")
    for module in ("aiohttp", "fsspec.implementations.http", "pynwb", "xarray", "nwbrnn.readers.engine"):
        importlib.import_module(module)
    steps = READERS[name](url)
    for _ in range(2):
        start = time.perf_counter()
        values = next(steps)
        seconds = time.perf_counter() - start
        text = {"seconds": seconds, "sum": float(np.sum(values)), "n": int(values.size)}
        print(json.dumps(text), flush=True)
        sys.stdin.readline()
    steps.close()


def watch(name: str, url: str, server: Server) -> list[dict[str, float]] | str:
    """Run a reader in a process of its own; return what each step needed, or why there is nothing."""
    server.reset()
    command = [sys.executable, __file__, name, url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        steps = []
        for _ in range(2):
            line = process.stdout.readline()
            if not line:
                return process.stderr.read().strip().splitlines()[-1][:100]
            steps.append(
                json.loads(line) | {"requests": len(server.requests), "megabytes": server.n_bytes / MEGABYTE}
            )
            server.reset()
            process.stdin.write("\n")
            process.stdin.flush()
        return steps


def main() -> None:
    if len(sys.argv) > 1:
        run_reader(*sys.argv[1:])
        return
    if importlib.util.find_spec("fsspec") is None or importlib.util.find_spec("aiohttp") is None:
        sys.exit("This needs fsspec and aiohttp: pip install 'nwbrnn[remote]'")
    with temporary_folder() as folder, serve_folder(folder) as server:
        path = make_alone(make_file, folder / "session.nwb")
        size = path.stat().st_size / MEGABYTE
        print(f"{list_versions('nwbrnn', 'pynwb', 'h5py', 'fsspec')}; {size:.0f} MB")
        print("reader           | open, first value: requests, MB, s | a trial's window: requests, MB, s")
        sums = set()
        for name in READERS:
            steps = watch(name, f"{server.url}/{path.name}", server)
            if isinstance(steps, str):
                print(f"{name:16} | {steps}")
                continue
            sums.add((steps[1]["n"], round(steps[1]["sum"], 9)))
            cells = [f"{s['requests']:20} {s['megabytes']:6.1f} {s['seconds']:6.2f}" for s in steps]
            print(f"{name:16} | " + " | ".join(cells))
    print("targets          | at most 6 requests, 5 MB          | at most 3 MB")
    if len(sums) > 1:
        sys.exit(f"the readers disagree: {sums}")


if __name__ == "__main__":
    main()
