"""Name the columns of tables as coordinates, and list the processing modules that are not exported fits."""

from collections.abc import Iterable

from pynwb import NWBFile, ProcessingModule

from nwbrnn.formats.fit.layout import is_module_of_fit


def name_coordinates(
    names: Iterable[str], *, prefix: str, taken: Iterable[str] = (), always: bool = False
) -> dict[str, str]:
    """Return a unique name in a Dataset for each column, so that no column hides another.

    A name that is ``taken``, or that another column has, gets the prefix and, if necessary, a number. With
    ``always``, every name that does not begin with the prefix gets it.
    """
    names = list(names)
    # NetCDF separates names in lists by spaces
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
    """Return the processing modules by name, except exported fits, which are results and not data."""
    return {name: m for name, m in nwbfile.processing.items() if not is_module_of_fit(name)}
