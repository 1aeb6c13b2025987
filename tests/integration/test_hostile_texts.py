"""Hostile texts in every field of a recording, through every command that shows, stores or draws them."""

import re
import shutil
import unicodedata

import h5py
import numpy as np
import pytest

TEXTS = {
    "terminal": "\x1b]0;HOSTILE\x07\x1b[2J\x9b31m\r\x08",
    "lines": "a\nError: b\n\x0b\x0c\x85\u2028\u2029c",
    "bidi": "a\u202egnp\u2066\u2069\u200f",
    "invisible": "a\u200b\u200d\ufeff\u00ad\U000e0041b",
    "HTML": "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&",
    "markup": "[red]x[/red] {{7*7}} {0} %s $x_1^2$ \\frac{",
    "formula": "=cmd|'/c calc'!A1",
    "long": "x" * 1_000_000,
    "many characters": "\U0001f9e0é漢" * 100,
    "bytes": b"\xff\xfe\xe9",
    "empty": "",
}
STRUCTURE = {"namespace", "neurodata_type", "object_id", ".specloc", "colnames", "nwb_version", "table", "_"}
NEEDED = {"session_start_time", "timestamps_reference_time", "file_create_date", "date_of_birth", "unit"}


def list_fields(file):
    """Return the path of every text in a file that somebody may write as he likes, attributes behind @."""
    fields = []

    def add(path, item):
        if path.startswith("specifications"):
            return
        if isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None:
            fields.extend({path} if path.rsplit("/", 1)[-1] not in NEEDED else ())
        names = set(item.attrs) - STRUCTURE - NEEDED
        fields.extend(f"{path}@{name}" for name in sorted(names) if isinstance(item.attrs[name], str))

    file.visititems(add)
    return fields


def put(file, field, text):
    """Write a text into a field; values that differ go on to differ."""
    path, _, attribute = field.partition("@")
    if attribute:
        file[path].attrs[attribute] = text
        return
    values = np.ravel(file[path][()])
    shape, attributes = file[path].shape, dict(file[path].attrs)
    raw = text if isinstance(text, bytes) else text.encode()
    different = [raw + value if len(values) > 1 else raw for value in values]
    del file[path]
    file.create_dataset(
        path, data=np.array(different, dtype=object).reshape(shape), dtype=h5py.string_dtype()
    )
    file[path].attrs.update(attributes)


def rename(file, text):
    """Give a series, a unit column and a trial column the name; HDF5 cannot have a slash in one."""
    name = text if isinstance(text, bytes) else (text.replace("/", "∕")[:60_000] or " ").encode()
    file.id.move(b"acquisition/EMG", b"acquisition/EMG" + name)
    for table, column in (("units", "quality"), ("intervals/trials", "result")):
        file.id.move(f"{table}/{column}".encode(), f"{table}/{column}".encode() + name)
        columns = [
            column.encode() + name if one == column else one for one in file[table].attrs["colnames"]
        ]
        file[table].attrs["colnames"] = np.array(columns, dtype=h5py.string_dtype())


@pytest.fixture(scope="module")
def base(make_recording):
    """Return a recording with texts as conditions."""
    return make_recording(text_condition=True, emg_rate=50.0).path


def check_shown(finished, case):
    """Check that nothing that was printed moves a cursor, hides, turns round or makes lines of its own."""
    assert finished.code in (0, 1, 2), (case, finished.err[-500:])
    shown = finished.out + finished.err
    bad = {c for c in shown if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad, (case, bad)
    if finished.code == 2:
        assert len(finished.err.splitlines()) == 1, (case, finished.err[:500])
    assert len(shown) < 200_000, (case, len(shown))


def run_all(run_cli, session, folder, case):
    """Run every command on a recording that was tampered with; return how many succeeded."""
    small = ("--set", "epochs=1", "--set", "hidden=12", "--set", "sampled=2")
    fit, page = folder / "fit.nwb", folder / "page.html"
    commands = [
        ("inspect", session, "--json", folder / "i.json"),
        ("doctor", session, "--json", folder / "d.json"),
        ("read", session, "-o", folder / "read.nc"),
        ("fit", session, "-o", fit, "--epochs", "1", "--hidden", "12", "--sampled", "2"),
        ("evaluate", fit, "--json", folder / "e.json"),
        ("report", fit, "-o", page),
        ("export", fit, "-o", folder / "copy.nwb", "--source", session, "--to", "copy"),
        ("sweep", session, "-o", folder / "sweep", "--seeds", "1", "--resamples", "0", *small[:4]),
        ("report", folder / "sweep", "-o", folder / "sweep.html"),
        ("dandi", session.parent, "-o", folder / "dandi", *small),
    ]
    done = 0
    for command in commands:
        if command[0] in ("evaluate", "report", "export") and not command[1].exists():
            continue
        finished = run_cli(*command)
        check_shown(finished, (case, command[0]))
        done += finished.code == 0
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r"<script", text)) == 2, (case, path.name)
        assert not re.search("<script>alert|<img src=x", text), (case, path.name)
        assert len(text) < 5_000_000, (case, path.name, len(text))
    return done


@pytest.mark.slow
def test_hostile_texts_in_every_field(campaign, base, run_cli, in_process, tmp_path):
    with h5py.File(base) as file:
        fields = list_fields(file)
    cases = [(kind, where) for kind in TEXTS for where in ("all", "names", *fields)]
    run = campaign("hostile texts through every command", few=2, many=len(cases))
    for number, (kind, where) in enumerate(run.pick(cases)):
        session = tmp_path / str(number) / "in" / "session.nwb"
        session.parent.mkdir(parents=True)
        shutil.copy(base, session)
        with h5py.File(session, "r+") as file:
            if where == "names":
                rename(file, TEXTS[kind])
            for field in fields if where == "all" else [where] if where != "names" else []:
                put(file, field, TEXTS[kind])
        out = tmp_path / str(number) / "out"
        out.mkdir()
        run.count("commands that ended well", run_all(run_cli, session, out, (kind, where)))
        run.count("recordings")
        shutil.rmtree(tmp_path / str(number))
