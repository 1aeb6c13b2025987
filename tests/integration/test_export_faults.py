"""What can go wrong during an export is provoked: nothing is lost, and no partial file has the final name."""

import contextlib
import errno
import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from exporting import begin_export, hash_file

import nwbrnn
from nwbrnn.errors import ExportError
from nwbrnn.storage import output
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

WAYS = ("new", "copy", "in-place")


@pytest.fixture(scope="module")
def fitted(make_recording, tmp_path_factory):
    """Return a folder with a recording and a fit of it; only to be read."""
    source = make_recording().path
    folder = tmp_path_factory.mktemp("fitted")
    shutil.copy(source, folder / "session.nwb")
    ds = nwbrnn.read_nwb(folder / "session.nwb", bin_size=0.1)
    result = nwbrnn.fit(ds, epochs=2, hidden=6, sampled=3, min_rate=0)
    nwbrnn.write_fit(result, folder / "session.nwb", folder / "fit.nwb")
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    """Return a folder of one's own with a recording and a fit of it."""
    for name in ("session.nwb", "fit.nwb"):
        shutil.copy(fitted / name, tmp_path / name)
    return tmp_path


def begin(folder, to, *, name=None, overwrite=False):
    path = None if to == "in-place" else folder / "out.nwb"
    options = {"to": to, "name": name, "overwrite": overwrite}
    return begin_export(folder / "fit.nwb", folder / "session.nwb", path, options, folder / "report.txt")


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def measure(run, *arguments, **options):
    """Return how long an export takes [s]; the first one also starts the server of processes."""
    started = time.monotonic()
    assert run(*arguments, **options) == 0
    return time.monotonic() - started


def begin_and_wait(folder, to, **options):
    process = begin(folder, to, **options)
    process.join()
    return process.exitcode


@pytest.mark.parametrize("to", WAYS)
def test_kill_at_any_moment_loses_nothing(folder, campaign, to):
    """SIGKILL at random moments: the source is as it was or has the whole fit, outputs whole or absent."""
    source, out = folder / "session.nwb", folder / "out.nwb"
    duration = min(measure(begin_and_wait, folder, to, overwrite=True) for _ in range(2))
    kills = campaign("kills of exports", few=2, many=35)
    while kills.counts.get("killed", 0) < kills.size:
        out.unlink(missing_ok=True)
        before = hash_file(source)
        process = begin(folder, to, overwrite=True)
        time.sleep(kills.rng.uniform(0, 1.1) * duration)
        process.kill()
        process.join()
        kills.count("killed" if process.exitcode == -signal.SIGKILL else "ended before")
        changed = source if to == "in-place" else out
        if changed.exists() and (changed == out or hash_file(source) != before):
            kills.count("with a complete file")
            assert len(nwbrnn.read_fit(changed).weights["bias"]) == 6
        if to != "in-place":
            assert hash_file(source) == before
        assert set(list_names(folder)) <= {"session.nwb", "fit.nwb", "out.nwb"} | find_temporary(folder)
    assert begin_and_wait(folder, to, overwrite=True) == 0
    assert not find_temporary(folder)  # the next export removes what the killed ones left


def find_temporary(folder):
    return {path.name for path in folder.glob(".nwbrnn-*.tmp.nwb")}


@pytest.mark.parametrize("to", WAYS)
def test_full_disk_loses_nothing(folder, mount, campaign, tmp_path_factory, to):
    """A disk with few bytes left: the export fails, everything is as it was; with space it works again."""
    fills = campaign("exports to a full disk", few=1, many=20)
    for free in fills.pick(range(0, 400_000, 20_000)):
        disk = tmp_path_factory.mktemp("disk")
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", disk)
        for name in ("session.nwb", "fit.nwb"):
            shutil.copy(folder / name, disk / name)
        with (disk / "filling").open("wb") as file:
            file.write(b"x" * (shutil.disk_usage(disk).free - free))
        before = {path.name: hash_file(path) for path in disk.iterdir()}
        assert begin_and_wait_reporting(disk, folder, to) == 2, f"{free} bytes left"
        target = disk / ("session.nwb" if to == "in-place" else "out.nwb")
        assert_names((folder / "report.txt").read_text(), "ExportError", target, os.strerror(errno.ENOSPC))
        assert {path.name: hash_file(path) for path in disk.iterdir()} == before
        (disk / "filling").unlink()
        fills.count("refused")
    assert begin_and_wait_reporting(disk, folder, to) == 0


def begin_and_wait_reporting(disk, folder, to):
    """Export on a disk that may be full, and report elsewhere."""
    path = None if to == "in-place" else disk / "out.nwb"
    process = begin_export(disk / "fit.nwb", disk / "session.nwb", path, {"to": to}, folder / "report.txt")
    process.join()
    return process.exitcode


def test_full_disk_of_other_outputs(mount, tmp_path, teacher):
    mount("-t", "tmpfs", "-o", "size=100k", "tmpfs", tmp_path)
    with pytest.raises(ExportError, match=names(tmp_path / "teacher.nwb", os.strerror(errno.ENOSPC))):
        nwbrnn.write_teacher(teacher.ds, tmp_path / "teacher.nwb")
    with pytest.raises(ExportError, match=names(tmp_path / "teacher.nc", os.strerror(errno.ENOSPC))):
        nwbrnn.write_dataset(teacher.ds, tmp_path / "teacher.nc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", WAYS)
def test_read_only_folder(folder, mount, to):
    mount("--bind", folder, folder)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    stored, path = nwbrnn.read_fit(folder / "fit.nwb"), None if to == "in-place" else folder / "out.nwb"
    before = list_names(folder)
    with pytest.raises(ExportError, match=names(path or folder / "session.nwb", "writable")):
        nwbrnn.write_fit(stored, folder / "session.nwb", path, to=to)
    assert list_names(folder) == before


@pytest.mark.parametrize("to", WAYS)
def test_source_that_is_open_for_writing_elsewhere(folder, to):
    source, stored = folder / "session.nwb", nwbrnn.read_fit(folder / "fit.nwb")
    program = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    command = [sys.executable, "-c", program, str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        before = hash_file(source)  # HDF5 marks a file that is open
        path = None if to == "in-place" else folder / "out.nwb"
        with pytest.raises(ExportError, match=names(source)):
            nwbrnn.write_fit(stored, source, path, to=to)
        assert hash_file(source) == before
        writer.communicate("\n")
    nwbrnn.write_fit(stored, source, path, to=to)


def test_reader_elsewhere_keeps_its_file(folder):
    """Who has the source open while it gets a fit goes on with what was opened."""
    source, stored = folder / "session.nwb", nwbrnn.read_fit(folder / "fit.nwb")
    with h5py.File(source) as file:
        before = file["acquisition/EMG/data"][:]
        nwbrnn.write_fit(stored, source, to="in-place")
        assert (file["acquisition/EMG/data"][:] == before).all()
        assert "nwbrnn" not in file["processing"]
    with h5py.File(source) as file:
        assert "nwbrnn" in file["processing"]


@pytest.mark.parametrize("to", WAYS)
def test_source_that_changed_since_the_fit(folder, to):
    source, stored = folder / "session.nwb", nwbrnn.read_fit(folder / "fit.nwb")
    with h5py.File(source, "r+") as file:
        file["acquisition/EMG/data"][0, 0] += 1
    before = hash_file(source)
    with pytest.raises(
        ExportError, match=names(source, "SHA-256", f"{stored.recorded.attrs['source_sha256'][:12]}…")
    ):
        nwbrnn.write_fit(stored, source, None if to == "in-place" else folder / "out.nwb", to=to)
    assert hash_file(source) == before
    assert list_names(folder) == ["fit.nwb", "session.nwb"]


def test_source_that_changes_during_the_export(folder, monkeypatch):
    """Another program replaces the file after it was read: its content stays."""
    source, stored = folder / "session.nwb", nwbrnn.read_fit(folder / "fit.nwb")
    theirs = source.read_bytes() + b"theirs"

    def validate(**_):
        shutil.copy(source, folder / "new")
        with (folder / "new").open("ab") as file:
            file.write(b"theirs")
        (folder / "new").replace(source)
        return []

    monkeypatch.setattr("nwbrnn.storage.output.pynwb.validate", validate)
    with pytest.raises(ExportError, match=names(source, "export")):
        nwbrnn.write_fit(stored, source, to="in-place")
    assert source.read_bytes().startswith(theirs)
    assert list_names(folder) == ["fit.nwb", "session.nwb"]


@pytest.mark.parametrize("to", WAYS)
def test_two_exports_at_once(folder, campaign, to):
    """Whoever comes second is refused, or finds the first one's fit; both say the truth."""
    source = folder / "session.nwb"
    original = hash_file(source)
    races = campaign("exports raced against each other", few=1, many=8)
    for attempt in range(races.size):
        (folder / "out.nwb").unlink(missing_ok=True)
        names = [f"a{attempt}", f"b{attempt}"]
        racing = [begin(folder, to, name=name) for name in names]
        for process in racing:
            process.join()
        codes = [process.exitcode for process in racing]
        assert 0 in codes
        assert set(codes) <= {0, 2}
        won = [name for name, code in zip(names, codes, strict=True) if code == 0]
        races.count("won by both" if len(won) == 2 else "won by one")
        if to != "in-place":
            assert len(won) == 1
            assert hash_file(source) == original
        for name in won:
            assert len(
                nwbrnn.read_fit(source if to == "in-place" else folder / "out.nwb", name).weights["bias"]
            )
        assert not find_temporary(folder)


def test_copy_that_would_link_to_its_source_is_refused(folder, monkeypatch):
    """A fault of ours or of hdmf: the file that would replace the source lacks its data."""
    source, stored = folder / "session.nwb", nwbrnn.read_fit(folder / "fit.nwb")
    create = output.NWBHDF5IO

    def forgetful(*, path, file, mode):
        return create(file=file, mode=mode)  # without the path hdmf takes the source for another file

    monkeypatch.setattr("nwbrnn.storage.file.NWBHDF5IO", forgetful)
    before = hash_file(source)
    with pytest.raises(ExportError, match=names(source, "units/spike_times", "HardLink")):
        nwbrnn.write_fit(stored, source, to="in-place")
    assert hash_file(source) == before


def test_power_failure_loses_nothing(folder, mount, campaign, tmp_path_factory):
    """What is on the disk at random moments of exports is the old file or the new one, whole.

    The file system is in an image; a copy of it is what a power failure would leave. Half of the moments
    are after the export has ended: then the new file must be there.
    """
    place, image, cut, found = (tmp_path_factory.mktemp(n) / n for n in ("disk", "image", "cut", "found"))
    make_disk(image, place, mount)
    for name in ("session.nwb", "fit.nwb"):
        shutil.copy(folder / name, place / name)
    os.sync()
    found.mkdir()
    duration = measure(begin_and_wait_reporting, place, folder, "in-place")
    cuts = campaign("power cuts", few=2, many=20)
    whole = {hash_file(place / "session.nwb")}
    for attempt in range(cuts.size):
        options = {"to": "in-place", "overwrite": True}
        arguments = place / "fit.nwb", place / "session.nwb", None, options, folder / "report.txt"
        process = begin_export(*arguments)
        if attempt % 2:
            process.join()
            whole = {hash_file(place / "session.nwb")}
        else:
            time.sleep(cuts.rng.uniform(0.2, 1) * duration)
            send_signal(process, signal.SIGSTOP)
        copy_disk(image, cut)
        if not attempt % 2:
            send_signal(process, signal.SIGCONT)
            process.join()
            whole.add(hash_file(place / "session.nwb"))
        assert look_into(cut, found, "session.nwb", hash_file) in whole
        cuts.count("after an export" if attempt % 2 else "during an export")
        whole = {hash_file(place / "session.nwb")}


def test_power_failure_is_seen_by_this_test(mount, tmp_path_factory):
    """The way that is not taken, a rename before the content is on the disk, loses the file."""
    place, image, cut, found = (tmp_path_factory.mktemp(n) / n for n in ("disk", "image", "cut", "found"))
    make_disk(image, place, mount)
    found.mkdir()

    def lose():
        (place / "file").write_bytes(b"old" * 10_000)
        os.sync()
        (place / "temporary").write_bytes(b"new" * 10_000)
        (place / "temporary").replace(place / "file")
        with (place / "another").open("wb") as another:
            os.fsync(another.fileno())  # the journal is written, and with it the new name
        copy_disk(image, cut)
        return look_into(cut, found, "file", Path.read_bytes)

    # another process may write all that is in memory to the disk just then
    assert any(lose() not in (b"old" * 10_000, b"new" * 10_000) for _ in range(3))


def make_disk(image, place, mount):
    """Mount an empty file system that does not by itself write what is in files before it renames them."""
    make = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if make is None:
        pytest.skip("there is no mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run([make, "-q", str(image)], check=True)
    place.mkdir()
    mount("-o", "loop,noauto_da_alloc,commit=1", image, place)


def send_signal(process, number):
    """Send a signal to an export; it may have ended before."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def copy_disk(image, cut):
    """Copy an image as it is at one moment, though the kernel may write to it at any time."""
    while True:
        shutil.copyfile(image, cut)
        if filecmp.cmp(image, cut, shallow=False):  # each part stayed from before this moment until after it
            return


def look_into(image, place, name, look):
    """Return what is seen of a file in a copy of a file system, mounted as after a power failure."""
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        return look(place / name)
    finally:
        subprocess.run(["umount", str(place)], check=True)
