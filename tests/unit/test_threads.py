"""How many threads the numerical libraries get."""

import inspect
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import nwbrnn
from nwbrnn.threads import VARIABLES, limit_threads


def count():
    """Return the threads of each numerical library of this process."""
    return [library["num_threads"] for library in threadpool_info()]


@pytest.fixture
def three(monkeypatch):
    """Libraries with three threads each, in an environment that says nothing of threads."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=3):
        assert set(count()) == {3}
        yield


def test_one_thread_inside_and_as_many_as_before_afterwards(three):
    with limit_threads():
        assert set(count()) == {1}
        with limit_threads():
            assert set(count()) == {1}
        assert set(count()) == {1}
    assert set(count()) == {3}


def test_an_error_gives_the_threads_back(three):
    with pytest.raises(KeyError), limit_threads():
        raise KeyError
    assert set(count()) == {3}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_number_that_the_user_chose_is_kept(three, monkeypatch, name):
    monkeypatch.setenv(name, "3")
    with limit_threads():
        assert set(count()) == {3}


class Reached(Exception):
    """The first thing that a function calls was called."""


@pytest.mark.parametrize(
    ("function", "first", "arguments"),
    [
        (nwbrnn.fit, "parse_settings", (None,)),
        (nwbrnn.assess, "normalize_outputs", (None, None)),
        (nwbrnn.evaluate, "normalize_outputs", (None, None)),
        (nwbrnn.predict, "find_sizes", (MagicMock(), {}, nwbrnn.FitConfig())),
        (nwbrnn.simulate_teacher, "TeacherConfig", ()),
        (nwbrnn.build_circuit, "_create_random_weights", ()),
        (nwbrnn.write_fit_report, "predict_mean", (Mock(), "page.html")),
    ],
)
def test_what_computes_has_one_thread(three, monkeypatch, function, first, arguments):
    seen = []

    def look(*_, **__):
        seen.extend(count())
        raise Reached

    monkeypatch.setitem(inspect.unwrap(function).__globals__, first, look)
    with pytest.raises(Reached):
        function(*arguments)
    assert set(seen) == {1}
    assert set(count()) == {3}


def test_a_forecast_has_one_thread(three, monkeypatch):
    seen = []
    monkeypatch.setattr("nwbrnn.prediction.forecast", lambda *_, **__: seen.extend(count()) or ())
    nwbrnn.FitResult.forecast(Mock())
    assert set(seen) == {1}
