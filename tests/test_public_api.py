"""The names that ``import nwbrnn`` offers."""

import importlib

import pytest

import nwbrnn
from tests.messages import names


@pytest.mark.parametrize("name", nwbrnn.__all__)
def test_public_name_is_importable_and_documented(name):
    value = getattr(nwbrnn, name)
    assert value is getattr(importlib.import_module(nwbrnn._MODULES[name]), name)
    assert value.__module__.startswith("nwbrnn.")
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "a docstring made by dataclass or pydantic, not written"


def test_all_equals_the_lazy_map_and_is_sorted():
    assert nwbrnn.__all__ == list(nwbrnn._MODULES)
    assert nwbrnn.__all__ == sorted(nwbrnn.__all__)
    assert dir(nwbrnn) == sorted([*nwbrnn.__all__, *nwbrnn._SUBMODULES])


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=names("nwbrnn", "'fitt'")):
        _ = nwbrnn.fitt
