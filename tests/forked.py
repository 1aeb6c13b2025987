"""Runs a case in a forked copy of this process: it may hang, crash or leak, and starts warm."""

import contextlib
import importlib
import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Any

SECONDS = 20
"""Processor time that a case may take [s]: longer ones hang. Of the time on the clock, 15 times as much."""
MEMORY = 1_300_000_000
"""Bytes that a case may need above those of this process, which has imported everything."""


KILLED = "it was killed"


@dataclass(frozen=True)
class Ended:
    """How a case ended: with a value or a fault, which is a crash, a hang, an exception or much memory."""

    value: Any
    fault: str


def preload():
    """Import what commands import when they are called, so that forked copies need not."""
    for name in ("cli.main", "dandiset", "report", "reproduce"):
        importlib.import_module(f"nwbrnn.{name}")


@dataclass(frozen=True)
class Begun:
    """A case that runs in a process of its own."""

    pid: int
    reading: int
    seconds: float

    def kill(self):
        """End it as no program can resist."""
        os.kill(self.pid, signal.SIGKILL)

    def finish(self):
        """Wait for its end."""
        try:
            text = _read(self.reading, time.monotonic() + 15 * self.seconds)
            if text is None:
                self.kill()
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        finally:
            os.close(self.reading)
        if text is None or status == -signal.SIGXCPU:
            return Ended(None, f"it hung: more than {self.seconds} s")
        if status or not text:
            return Ended(None, KILLED if status == -signal.SIGKILL else f"it crashed with {status}")
        report = json.loads(text)
        fault = report["error"]
        if not fault and report["grown"] > MEMORY:
            fault = f"it took {report['grown'] / 1e9:.1f} GB"
        return Ended(report["value"], fault)


def begin(function, *arguments, seconds=SECONDS):
    """Begin a function in a forked process; its value has to be fit for JSON."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run(function, arguments, writing, seconds)
    os.close(writing)
    return Begun(pid, reading, seconds)


def call(function, *arguments, seconds=SECONDS):
    """Return how a function ends in a forked process."""
    return begin(function, *arguments, seconds=seconds).finish()


def begin_cli(*arguments, seconds=SECONDS):
    """Begin ``nwbrnn`` with some arguments; its value is the exit code, and what it wrote to both streams."""
    return begin(_run_cli, [str(argument) for argument in arguments], seconds=seconds)


def run_cli(*arguments, seconds=SECONDS):
    """Return how ``nwbrnn`` ends with some arguments."""
    return begin_cli(*arguments, seconds=seconds).finish()


def _run_cli(arguments):
    from nwbrnn.cli import main

    out, err, sys.argv = io.StringIO(), io.StringIO(), ["nwbrnn", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
    return [code, out.getvalue(), err.getvalue()]


def _run(function, arguments, writing, seconds):
    """Run a function in the forked process, write down how it ended, and end it."""
    report: dict[str, Any] = {"value": None, "error": ""}
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        warnings.simplefilter("ignore")
        before = _measure()
        report["value"] = function(*arguments)
        report["grown"] = _measure() - before
    except BaseException:  # noqa: BLE001
        report["error"] = "".join(traceback.format_exc().splitlines(keepends=True)[-8:])
    finally:
        with contextlib.suppress(BaseException), os.fdopen(writing, "w") as stream:
            json.dump(report, stream)
        os._exit(0)


def _measure():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(reading, until):
    """Return what the process writes before it ends; ``None`` if it does not in time."""
    parts = []
    while True:
        ready = select.select([reading], [], [], max(0, until - time.monotonic()))[0]
        if not ready:
            return None
        part = os.read(reading, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
