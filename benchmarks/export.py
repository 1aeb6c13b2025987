"""Memory and time of an export into a large file: most of it is a raw recording that the fit did not need.

python benchmarks/export.py [GIGABYTES]
"""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

FIT = """
import sys, nwbrnn
source, out = sys.argv[1:]
ds = nwbrnn.read_nwb(source)
nwbrnn.write_fit(nwbrnn.fit(ds, epochs=5, hidden=50), source, out)
"""
EXPORT = """
import re, sys, time, nwbrnn
from pathlib import Path
fit, source, to, out = sys.argv[1:]
stored = nwbrnn.read_fit(fit)
begin = time.perf_counter()
nwbrnn.write_fit(stored, source, None if to == "in-place" else out, to=to)
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # Linux
print(f"{to:9} {time.perf_counter() - begin:6.1f} s {peak:6.0f} MiB")
"""


def make_recording(path: Path, gigabytes: float) -> None:
    """Write a teacher with spikes, EMG, and a raw recording of so many gigabytes."""
    from pynwb import NWBHDF5IO, TimeSeries

    import nwbrnn

    config = nwbrnn.TeacherConfig(n_neurons=100, n_directions=4, n_trials=10)
    nwbrnn.write_teacher(nwbrnn.simulate_teacher(config), path)
    n_samples = int(gigabytes * 1e9 / 2 / 256)
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        raw = np.memmap(file, np.int16, "w+", shape=(n_samples, 256))
        rng = np.random.default_rng(0)
        for start in range(0, n_samples, 100_000):
            raw[start : start + 100_000] = rng.integers(-999, 999, raw[start : start + 100_000].shape)
        with NWBHDF5IO(str(path), "a") as io:
            nwbfile = io.read()
            nwbfile.add_acquisition(TimeSeries(name="raw", data=raw, unit="V", rate=30_000.0))
            io.write(nwbfile)


def main() -> None:
    """Print time and peak memory of each way out, and of a bare copy."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, fit = folder / "session.nwb", folder / "fit.nwb"
        make_recording(source, gigabytes)
        subprocess.run([sys.executable, "-c", FIT, source, fit], check=True)
        print(f"{datetime.now(UTC):%Y-%m-%d}: source of {source.stat().st_size / 1e9:.2f} GB")
        begin = time.perf_counter()
        subprocess.run(["cp", source, folder / "plain.nwb"], check=True)
        print(f"cp        {time.perf_counter() - begin:6.1f} s")
        for to in ("new", "copy", "in-place"):
            out = folder / f"{to}.nwb"
            subprocess.run([sys.executable, "-c", EXPORT, fit, source, to, out], check=True)
            out.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
