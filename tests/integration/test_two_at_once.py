"""No command begins while another one writes the same output: of all commands, from the program itself."""

import pytest
from test_outputs import NAMES, create_arguments, load

from nwbrnn.cli.access import Access
from nwbrnn.storage.lock import hold


def list_outputs():
    return [(n, p) for n in NAMES for p, access in load(n).accesses.items() if access is Access.WRITE]


@pytest.mark.parametrize(("name", "parameter"), list_outputs())
def test_no_command_begins_while_another_writes_there(name, parameter, tmp_path, run_cli):
    values = {one: tmp_path / f"{one}.nwb" for one in load(name).accesses}
    with hold(values[parameter]):
        finished = run_cli(name, *create_arguments(name, values))
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert str(values[parameter]) in finished.err
    assert list(tmp_path.iterdir()) == []
