"""With what a fit was made."""

import json
from pathlib import Path

from nwbrnn.storage import open_nwb


def read_versions(path: str | Path) -> dict[str, str]:
    """Read which versions of which software made a fit.

    Parameters
    ----------
    path
        The NWB file of a fit.

    Returns
    -------
    dict
        Version by name; empty if the file does not say.

    Raises
    ------
    UnsupportedFileError
        If the file is not NWB.
    """
    with open_nwb(path) as nwbfile:
        scratch = nwbfile.scratch or {}
        about = json.loads(scratch["nwbrnn_fit"].data) if "nwbrnn_fit" in scratch else {}
    return {str(name): str(version) for name, version in about.get("versions", {}).items()}
