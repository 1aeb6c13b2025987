"""Texts from files and settings are shown on one line, printable, and not endless."""

import pytest

from nwbrnn.errors import ConfigError, NwbrnnError
from nwbrnn.text import MAX_SHOWN, describe, escape, shorten


@pytest.mark.parametrize("code", [0, 7, 8, 10, 13, 27, 0x7F, 0x85, 0x9B, 0x2028, 0x202E, 0xDCE9])
def test_no_control_character_is_shown(code):
    shown = escape(f"EMG{chr(code)}x")
    assert shown.isprintable()
    assert shown.startswith("EMG\\")
    assert shown.endswith("x")


def test_ordinary_text_is_shown_as_it_is():
    text = "Müller → 5 µV, «EMG» 筋電図"
    assert escape(text) == shorten(text) == text


@pytest.mark.parametrize("length", [0, 1, MAX_SHOWN - 1, MAX_SHOWN, MAX_SHOWN + 1, 10 * MAX_SHOWN])
def test_a_short_text_is_whole_and_a_long_one_keeps_its_ends(length):
    text = "".join(chr(33 + i % 90) for i in range(length))
    shown = shorten(text)
    assert len(shown) == min(length, MAX_SHOWN)
    assert shown == text or (shown[:100] == text[:100] and shown[-100:] == text[-100:])


def test_any_value_can_be_described():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    for value in (16**5000, nested, "x" * 10**6, float("nan"), None):
        assert len(describe(value)) <= MAX_SHOWN


def test_a_message_has_a_line_for_each_argument():
    assert str(ConfigError("a", "b")) == "a\nb"
    assert str(NwbrnnError("a")) == "a"
