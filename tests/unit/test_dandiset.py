"""Names of derivatives, patterns, and where a dandiset is."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwbrnn.dandiset import Journal, Row, Selection, derive_path, select_assets
from nwbrnn.dandiset.naming import find_target, is_derivative
from nwbrnn.errors import ExportError, UnsupportedFileError
from nwbrnn.storage import Asset, Dandiset, find_dandiset, matches
from tests.drawing import draw
from tests.messages import assert_names, names


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sub-X/sub-X_ses-Y_behavior+ecephys.nwb", "sub-X/sub-X_ses-Y_desc-nwbrnn_behavior+ecephys.nwb"),
        ("sub-X/sub-X.nwb", "sub-X/sub-X_desc-nwbrnn.nwb"),
        ("sub-X/sub-X_desc-train_ecephys.nwb", "sub-X/sub-X_desc-train-nwbrnn_ecephys.nwb"),
        ("sub-X/sub-X_ses-1_probe-2_ecephys.nwb.zarr", "sub-X/sub-X_ses-1_probe-2_desc-nwbrnn_ecephys.nwb"),
        ("sub-X/ses-Y/ecephys/sub-X_ses-Y.nwb", "sub-X/ses-Y/ecephys/sub-X_ses-Y_desc-nwbrnn.nwb"),
        ("session.nwb", "session_desc-nwbrnn.nwb"),
    ],
)
def test_derivatives_are_named_after_their_assets(path, expected):
    assert derive_path(path).as_posix() == expected
    assert is_derivative(expected)
    assert not is_derivative(path)


LABEL = st.text("abcXYZ019-+é ", min_size=1, max_size=8)
ENTITIES = st.lists(
    st.tuples(st.sampled_from(["tis", "slice", "cell", "desc", "probe", "obj"]), LABEL), max_size=4
)


@pytest.fixture(scope="module")
def organize():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("dandi.organize", reason="the package dandi is not installed")


@pytest.mark.slow
@draw(100)
@given(
    subject=LABEL,
    session=st.none() | LABEL,
    entities=ENTITIES,
    modalities=st.sampled_from(["", "_ecephys", "_behavior+ecephys"]),
)
def test_dandi_takes_the_name_of_a_derivative_if_it_takes_that_of_the_asset(
    organize, subject, session, entities, modalities
):
    """By DANDI's own rule."""
    name = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    path = f"sub-{subject}/{name}{''.join(f'_{k}-{v}' for k, v in entities)}{modalities}.nwb"
    derivative = derive_path(path).as_posix()
    assert organize.validate_organized_path(path, Path(path), Path()) == []
    assert organize.validate_organized_path(derivative, Path(derivative), Path()) == []
    assert derivative != path
    wrong = derivative.replace("desc-", "description-")  # the rule can say no
    assert [one.id for one in organize.validate_organized_path(wrong, Path(wrong), Path())]


@pytest.mark.parametrize(
    "path",
    [
        "../sub-X/sub-X.nwb", "sub-X/../../sub-X.nwb", "/etc/sub-X.nwb", "sub-X//sub-X.nwb", "C:/sub-X.nwb",
        "C:sub-X.nwb", "..\\sub-X.nwb", "sub-X\\..\\..\\x.nwb", "sub-X/a\0.nwb", "sub-X/a\n.nwb", "./a.nwb",
        "", "sub-X/", "..", " /a.nwb",
    ],
)  # fmt: skip
def test_paths_that_could_leave_the_folder_are_refused(path, tmp_path):
    with pytest.raises(ExportError) as refused:
        find_target(tmp_path / "out", path)
    assert_names(str(refused.value), repr(path), "sub-X/sub-X_ecephys.nwb", "rename")
    assert not list(tmp_path.iterdir())


def test_links_in_the_output_folder_are_not_followed(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "sub-Y").mkdir(parents=True)
    elsewhere.mkdir()
    (out / "sub-X").symlink_to(elsewhere, target_is_directory=True)
    (out / "sub-Y" / "sub-Y_desc-nwbrnn.nwb").symlink_to(elsewhere / "y.nwb")
    for path in ("sub-X/sub-X.nwb", "sub-X/deeper/sub-X.nwb", "sub-Y/sub-Y.nwb"):
        with pytest.raises(ExportError, match=names(repr(path), out, out / derive_path(path), "link")):
            find_target(out, path)
    assert find_target(out, "sub-Y/sub-Y_ses-1.nwb") == out / "sub-Y" / "sub-Y_ses-1_desc-nwbrnn.nwb"
    linked = tmp_path / "linked"
    linked.symlink_to(out, target_is_directory=True)  # the folder itself may be a link
    assert find_target(linked, "sub-Z/sub-Z.nwb") == linked / "sub-Z" / "sub-Z_desc-nwbrnn.nwb"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.nwb", "abcde"),
        ("*.nwb", "d"),
        ("sub-*/*.nwb", "abe"),
        ("sub-1/**", "abcef"),
        ("sub-1/*.nwb.zarr", "e"),
        ("sub-1/*_ecephys.nwb", "a"),
        ("sub-?/**/*[ab]*.nwb", "bc"),
        ("SUB-1/*", ""),
    ],
)
def test_patterns(pattern, expected):
    paths = {
        "a": "sub-1/x_ecephys.nwb", "b": "sub-1/b.nwb", "c": "sub-1/ses-2/deep/a.nwb", "d": "top.nwb",
        "e": "sub-1/e.nwb.zarr", "f": "sub-1/f.zarr.nwb.json",
    }  # fmt: skip
    assert "".join(name for name, path in paths.items() if matches(path, pattern)) == expected


@pytest.mark.parametrize(
    ("text", "version", "archive"),
    [
        ("000941", "draft", None),
        ("dandi://000941", "draft", None),
        ("dandi://000941@0.230101.1234/", "0.230101.1234", None),
        ("https://archive.test/dandiset/000941", "draft", "https://archive.test"),
        ("https://archive.test/dandiset/000941/draft", "draft", "https://archive.test"),
        (
            "https://archive.test:81/#/dandiset/000941/0.23.1/files?location=a",
            "0.23.1",
            "https://archive.test:81",
        ),
    ],
)
def test_where_a_dandiset_is(text, version, archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_dandiset(text) == Dandiset("000941", version=version, archive=archive)
    (tmp_path / "000941").mkdir()
    if text == "000941":  # a downloaded one comes first
        assert find_dandiset(text).folder == tmp_path / "000941"


@pytest.mark.parametrize("text", ["nothing", "00094", "https://archive.test/other/000941", "dandi://x/a.nwb"])
def test_what_is_no_dandiset_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedFileError, match=names(text, "dandi://000941@draft", "check")):
        find_dandiset(text)


def test_a_folder_is_listed_without_what_is_hidden_ours_or_output(tmp_path):
    for path in (
        "sub-1/a.nwb", ".git/b.nwb", "sub-1/.c.nwb", "sub-1/a_desc-nwbrnn.nwb", "fits/sub-1/d.nwb",
        "notes.txt",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "sub-2").mkdir()
    (tmp_path / "sub-2" / "gone.nwb").symlink_to(tmp_path / "annex")  # as git-annex leaves it
    selection = select_assets(str(tmp_path), without=tmp_path / "fits")
    assert [(asset.path, asset.size) for asset in selection.assets] == [
        ("sub-1/a.nwb", 11),
        ("sub-2/gone.nwb", 0),
    ]
    before = selection.assets[0].state
    (tmp_path / "sub-1" / "a.nwb").write_text("other values")
    assert select_assets(str(tmp_path)).assets[1].state != before


# ------------------------------------------------------------------ fits that others have replaced

POOLED, ALONE = "sub-X/sub-X_desc-pool-nwbrnn.nwb", "sub-X/sub-X_ses-1_desc-nwbrnn.nwb"


def name_asset(number):
    return f"sub-X/sub-X_ses-{number}.nwb"


def begin(folder, numbers, pattern="**/*.nwb"):
    """Return the journal of a run of some assets."""
    assets = tuple(Asset(name_asset(number), "", 1, "new") for number in numbers)
    return Journal(Selection("000001", pattern, assets), folder)


def put(journal, *numbers, fit=POOLED, pool=None):
    """Record that assets share a fit, and write it."""
    paths = [name_asset(number) for number in numbers]
    for path in paths:
        row = Row(path, 1, "new", "fitted", derivative=fit, output_r2=0.5, settings="S")
        journal.put(replace(row, pool=paths if len(paths) > 1 else ()))
    for path in (journal.folder / fit, (journal.folder / fit).with_suffix(".html")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def fail(journal, *numbers):
    for number in numbers:
        journal.put(Row(name_asset(number), 1, "new", "failed", "broken"))


def list_fits(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("sub-*/*"))


def list_pages(*fits):
    return sorted(name for fit in fits for name in (fit, fit.replace(".nwb", ".html")))


@pytest.fixture
def pooled(tmp_path):
    """The folder of a run that pooled three assets."""
    folder = tmp_path / "fits"
    journal = begin(folder, (1, 2, 3))
    put(journal, 1, 2, 3)
    journal.remove_superseded()
    assert list_fits(folder) == list_pages(POOLED)
    return folder


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_fit_of_a_pool_goes_when_all_of_its_assets_are_fitted_alone(pooled, interrupted):
    alone = [ALONE.replace("ses-1", f"ses-{number}") for number in (1, 2, 3)]
    journal = begin(pooled, (1, 2, 3))
    for number, fit in enumerate(alone, start=1):
        put(journal, number, fit=fit)
    assert list_fits(pooled) == list_pages(*alone, POOLED)  # only a run that ends removes anything
    if interrupted:
        journal = begin(pooled, (1, 2, 3))
    journal.remove_superseded()
    assert list_fits(pooled) == list_pages(*alone)
    assert journal.removed == [POOLED]
    assert json.loads((pooled / "summary.json").read_text())["superseded"] == {}


@pytest.mark.parametrize("why", ["failed", "not listed", "lost"])
def test_the_fit_of_a_pool_is_kept_as_long_as_an_asset_has_no_other(pooled, why):
    """An asset that is not listed may be in a folder that is not mounted now."""
    alone = [ALONE.replace("ses-1", f"ses-{number}") for number in (1, 2, 3)]
    journal = begin(pooled, (1, 2) if why == "not listed" else (1, 2, 3))
    put(journal, 1, fit=alone[0])
    put(journal, 2, fit=alone[1])
    if why == "failed":
        fail(journal, 3)
    elif why == "lost":
        put(journal, 3, fit=alone[2])
        (pooled / alone[2]).unlink()
    journal.remove_superseded()
    assert journal.removed == []
    assert set(list_pages(POOLED)) <= set(list_fits(pooled))
    superseded = json.loads((pooled / "summary.json").read_text())["superseded"]
    assert superseded == {POOLED: [name_asset(number) for number in (1, 2, 3)]}


def test_fits_of_assets_that_are_not_listed_are_kept(pooled):
    journal = begin(pooled, (4,))
    journal.remove_superseded()
    assert list_fits(pooled) == list_pages(POOLED)


def test_a_fit_that_cannot_be_removed_is_kept_and_listed(pooled, monkeypatch):
    journal = begin(pooled, (1, 2, 3))
    for number in (1, 2, 3):
        put(journal, number, fit=ALONE.replace("ses-1", f"ses-{number}"))

    unlink = Path.unlink

    def refuse(self, missing_ok=False):
        if self.name == Path(POOLED).name:
            raise PermissionError(13, "Permission denied")
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        journal.remove_superseded()
    assert journal.removed == []
    assert list(journal.list_superseded()) == [POOLED]
    journal.remove_superseded()
    assert journal.removed == [POOLED]


def test_assets_that_a_smaller_pool_leaves_out_lose_the_scores_of_the_larger_one(pooled):
    journal = begin(pooled, (1, 2), "**/*_ses-[12].nwb")
    put(journal, 1, 2)
    journal.remove_superseded()
    assert list_fits(pooled) == list_pages(POOLED)  # it was written anew
    rows = {row["path"]: row for row in json.loads((pooled / "summary.json").read_text())["assets"]}
    table = pd.read_csv(pooled / "summary.csv").set_index("path")
    assert table["settings"].fillna("").to_dict() == {path: row["settings"] for path, row in rows.items()}
    left = rows[name_asset(3)]
    assert (left["status"], left["derivative"], left["output_r2"], left["pool"]) == ("listed", "", None, [])
    assert rows[name_asset(2)]["output_r2"] == 0.5


def test_only_fits_in_the_folder_are_removed(pooled, tmp_path):
    outside, mine = tmp_path / "mine_desc-nwbrnn.nwb", pooled / "sub-X" / "mine.nwb"
    linked = pooled / "sub-X" / "linked_desc-nwbrnn.nwb"
    for path in (outside, mine):
        path.touch()
    linked.symlink_to(outside)
    summary = pooled / "summary.json"
    values = json.loads(summary.read_text())
    names = ("../mine_desc-nwbrnn.nwb", str(outside), "sub-X/mine.nwb", "sub-X/linked_desc-nwbrnn.nwb")
    summary.write_text(json.dumps(values | {"superseded": {name: [name_asset(1)] for name in names}}))
    journal = begin(pooled, (1, 2, 3))
    put(journal, 1, 2, 3)
    journal.remove_superseded()
    assert journal.removed == []
    assert all(path.exists() for path in (outside, mine, linked))


def test_a_row_that_fails_has_no_results_of_an_earlier_fit():
    row = Row(
        "a.nwb", 1, "new", "fitted", findings=[], output_r2=0.5, derivative="a", kept=["a"], seconds=3.0
    )
    again = row.restart()
    assert again == Row("a.nwb", 1, "new", findings=[], kept=["a"], seconds=3.0)
