"""Name the derivative of an asset, and decide where it may be written."""

import re
from pathlib import Path, PurePosixPath

from nwbrnn.errors import ExportError
from nwbrnn.storage.paths import check_name

MARK = "nwbrnn"
"""Value of the entity ``desc-`` in our files."""

PAGE = ".html"
"""Suffix of the page of a fit, which is next to it."""

_ENDINGS = (".nwb.zarr", ".zarr", ".nwb")
_DESCRIPTION = re.compile(r"_desc-([^_]+)")
_MODALITIES = re.compile(r"_[a-z]+(\+[a-z]+)*$")
_SUBJECT = re.compile(r"(?:^|[/_])sub-([^/_]+)")
_FORBIDDEN = re.compile(r"[\\:\x00-\x1f\x7f]")


def derive_path(path: str) -> PurePosixPath:
    """Return the path of the derivative of an asset, in the same folder.

    The entity ``desc-nwbrnn`` comes before the modalities, as in DANDI; an existing description is kept
    before it. If DANDI accepts the name of the asset, it also accepts this one.

    Parameters
    ----------
    path
        Path of an asset in its dandiset, such as ``sub-X/sub-X_ses-Y_behavior+ecephys.nwb``.

    Raises
    ------
    ExportError
        If it is not the path of a file below a folder on every system.
    """
    parts = path.split("/")
    if _FORBIDDEN.search(path) or any(part.strip() in ("", ".", "..") for part in parts):
        raise ExportError(
            f"{path!r}: expected the path of a file in a dandiset, such as sub-X/sub-X_ecephys.nwb, but this "
            "one could lead out of the output folder; rename the asset"
        )
    *folders, name = parts
    stem = remove_ending(name)
    match = _MODALITIES.search(stem)
    start, modalities = (stem[: match.start()], match[0]) if match else (stem, "")
    if _DESCRIPTION.search(start):
        start = _DESCRIPTION.sub(rf"_desc-\1-{MARK}", start, count=1)
    else:
        start += f"_desc-{MARK}"
    return PurePosixPath(*folders, f"{start}{modalities}.nwb")


def find_subject(path: str) -> str:
    """Return the subject that the path of an asset names; empty if it names none.

    Examples
    --------
    >>> find_subject("sub-X/sub-X_ses-1_ecephys.nwb"), find_subject("monday.nwb")
    ('X', '')
    """
    found = _SUBJECT.findall(remove_ending(path))
    return found[-1] if found else ""


def name_pool(subject: str, path: str) -> str:
    """Return a path for the pool of a subject, as if it were an asset next to one of its assets.

    Examples
    --------
    >>> name_pool("X", "sub-X/sub-X_ses-1_ecephys.nwb")
    'sub-X/sub-X_desc-pool_ecephys.nwb'
    """
    folder, slash, name = path.rpartition("/")
    match = _MODALITIES.search(remove_ending(name))
    cleaned = re.sub(r"[^0-9A-Za-z+-]", "-", subject)
    return f"{folder}{slash}sub-{cleaned}_desc-pool{match[0] if match else ''}.nwb"


def is_derivative(path: str) -> bool:
    """Return whether the name of an asset is that of a derivative by nwbrnn."""
    descriptions = _DESCRIPTION.findall(remove_ending(PurePosixPath(path).name))
    return any(text.split("-")[-1] == MARK for text in descriptions)


def remove_ending(name: str) -> str:
    """Return the name of a file without the endings of NWB."""
    for ending in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def find_target(folder: Path, path: str) -> Path:
    """Return the path of an asset's derivative, creating its folder if needed.

    Parameters
    ----------
    folder
        The output folder.
    path
        Path of the asset in its dandiset.

    Raises
    ------
    ExportError
        If the path would be outside the output folder, by its name or a link, or if its name is too long.
    """
    target = folder.joinpath(*derive_path(path).parts)
    check_name(target.with_suffix(PAGE))
    root = folder.resolve()
    if target.is_symlink() or not target.parent.resolve().is_relative_to(root):
        raise ExportError(
            f"{path!r}: expected a place in {folder} for its derivative, but {target} is a link or behind "
            "one; remove the link"
        )
    return target
