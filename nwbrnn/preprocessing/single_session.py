"""What the network of a pool predicts for one of its sessions, as if that were fitted alone."""

import numpy as np
import xarray as xr

from nwbrnn.dataset import create_dataset, get_output_units
from nwbrnn.preprocessing.conversion import find_factor
from nwbrnn.preprocessing.sessions import ALIGNED, name_own
from nwbrnn.schema import RECORDING, SESSION, SESSION_OF_UNIT


def list_trained_outputs(recorded: xr.Dataset, alone: xr.Dataset, session: str) -> list[str]:
    """Return the outputs of a session of which its training trials in a pool hold values.

    Parameters
    ----------
    recorded
        The pool, prepared for a fit.
    alone
        The session without the others.
    session
        Its name in the pool.
    """
    trained = (recorded[SESSION].values == session) & (recorded["split"].values == "train")
    known = np.isfinite(recorded["outputs"].values[trained]).any(axis=(0, 1))
    trained_on = set(recorded["output"].values[known].tolist())
    names = alone["output"].values.tolist()
    return [name for name in names if {name, name_own(name, session)} & trained_on]


def view_session(predicted: xr.Dataset, alone: xr.Dataset, session: str) -> xr.Dataset:
    """Return the predictions of a pooled network for one session, in the units of its file.

    Both have the same trials, splits and sampled neurons, since these do not depend on the other sessions.
    The scores of a pooled network can therefore be compared with those of a network that was fitted to this
    session alone, or to other pools that hold it.

    Parameters
    ----------
    predicted
        The predictions for all trials of the pool, as :func:`nwbrnn.fit` returns them.
    alone
        The session, prepared with the settings of the fit, without the others.
    session
        Its name in the pool.

    Returns
    -------
    xarray.Dataset
        ``outputs``, ``rates`` and ``hidden`` for the trials and units of ``alone``, with its coordinates.

    Raises
    ------
    ValueError
        If the trials, units or outputs of ``alone`` are not those of the session in the pool.
    """
    trials = predicted[SESSION].values == session
    units = predicted[SESSION_OF_UNIT].values == session
    part = predicted.isel(trial=trials, unit=units)
    for dim in ("trial", "unit"):
        if not np.array_equal(part[f"session_{dim}"].values, alone[dim].values):
            raise ValueError(f"{dim}: expected those of session {session} in the pool")
    known = part["output"].values.tolist()
    names = alone["output"].values.tolist()
    columns = [known.index(name if name in known else name_own(name, session)) for name in names]
    outputs = part["outputs"].values[..., columns]
    row = part[RECORDING].values.tolist().index(session)
    if ALIGNED in part.coords:
        scale, offset = (part[f"recording_output_{n}"].values[row, columns] for n in ("scale", "offset"))
        outputs = (outputs * scale + offset).astype(outputs.dtype)
    if "recording_output_units" in part.coords:
        pooled = part["recording_output_units"].values[row, columns].tolist()
    else:  # outputs of its own, which name their units themselves
        pooled = [get_output_units(part)[column] for column in columns]
    # the pool converted them to the units of the first session that has them
    factors = [
        find_factor(unit, own) or 1.0 for unit, own in zip(pooled, get_output_units(alone), strict=True)
    ]
    outputs = (outputs * np.array(factors)).astype(outputs.dtype)
    variables = {
        "outputs": outputs,
        "rates": part["rates"].values,
        "hidden": part["hidden"].values,
        "inputs": alone["inputs"].values,
        "mask": alone["mask"].values,
    }
    return create_dataset(
        variables,
        {str(name): coord for name, coord in alone.coords.items()},
        bin_size=alone.attrs["bin_size"],
        units={name: alone[name].attrs["units"] for name in ("outputs", "inputs")},
    )
