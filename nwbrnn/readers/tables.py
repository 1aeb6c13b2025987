"""Names of what a file holds: modules that are not fits of ours, and columns as coordinates."""

from collections.abc import Iterable

from pynwb import NWBFile, ProcessingModule

from nwbrnn.formats.fit.layout import is_module_of_fit


def name_coordinates(
    names: Iterable[str], *, prefix: str, taken: Iterable[str] = (), always: bool = False
) -> dict[str, str]:
    """Return a name in a Dataset for each column, none twice, so that no column hides another.

    Parameters
    ----------
    names
        Of the columns of a table.
    prefix
        Put before a name that is taken, or that another column has; then a number follows.
    taken
        Names that are not to be used.
    always
        Whether all names get the prefix that do not begin with it.
    """
    names = list(names)
    # NetCDF keeps lists of names apart by spaces
    plain = {name: "_".join(name.split()) for name in names}
    used = set(taken)
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (plain[name] != name, not name.startswith(prefix))):
        label = plain[name] if plain[name].startswith(prefix) or not always else prefix + plain[name]
        numbered = (f"{prefix}{plain[name]}_{i}" for i in range(2, len(names) + len(used) + 3))
        found[name] = next(c for c in (label, prefix + plain[name], *numbered) if c not in used)
        used.add(found[name])
    return {name: found[name] for name in names}


def list_modules(nwbfile: NWBFile) -> dict[str, ProcessingModule]:
    """Return the processing modules by name, without exported fits: these are results and no data."""
    return {name: m for name, m in nwbfile.processing.items() if not is_module_of_fit(name)}
