"""What may be secret in an address is neither shown nor stored."""

import sys

import pytest

import nwbrnn.errors
from nwbrnn.addresses import strip_all_secrets, strip_secrets
from nwbrnn.cli.options import describe_command
from nwbrnn.errors import NwbrnnError
from nwbrnn.storage import find_source
from tests import forked

PUBLIC = "https://example.org/a/b.nwb"
SECRET = "https://me:hush@example.org/a/b.nwb?X-Amz-Signature=hush#hush"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (PUBLIC, PUBLIC),
        (SECRET, PUBLIC),
        ("https://hush@example.org:8080/a.nwb", "https://example.org:8080/a.nwb"),
        ("http://me:hu@sh@[::1]:80/a.nwb?hush", "http://[::1]:80/a.nwb"),
        ("HTTPS://me:hush@example.org/a b.nwb?one two=hush", "HTTPS://example.org/a b.nwb"),
        ("https:/me:hush@example.org/a.nwb?hush", "https:/example.org/a.nwb"),  # as pathlib leaves it
        ("s3://me:hush@bucket/a.nwb?versionId=hush", "s3://bucket/a.nwb"),
        ("ftp://me:hush@example.org/a.nwb", "ftp://example.org/a.nwb"),
        ("https://me:hu/sh@example.org/a.nwb", "https://…"),
        ("https://me:hu?sh@example.org/a.nwb", "https://…"),
        ("https://hu#sh@example.org/a.nwb", "https://…"),
        ("https://example.org?hush", "https://example.org"),
        (f"--map=emg={SECRET}", f"--map=emg={PUBLIC}"),
        (f"-o{SECRET}", f"-o{PUBLIC}"),
        ("dandi://000123/a?b#c@d.nwb@draft", "dandi://000123/a?b#c@d.nwb@draft"),
        ("/data/what?is#this@here.nwb", "/data/what?is#this@here.nwb"),
        ("C:/data/a.nwb?", "C:/data/a.nwb?"),
    ],
)
def test_address_without_secrets(address, shown):
    assert strip_secrets(address) == shown
    assert strip_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{0}: expected this, but 403, url=URL('{0}'); see <{0}>, \"{0}\", ({0}), {0}.",
        "--source {0}: no such file\n{0}",
    ],
)
def test_every_address_of_a_text_is_stripped(text):
    assert strip_all_secrets(text.format(SECRET)) == text.format(PUBLIC)
    assert strip_all_secrets(text.format(PUBLIC)) == text.format(PUBLIC)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8080: expected this", "http://[::1]:80, http://[::1]: no"]
)
def test_punctuation_is_no_port(text):
    assert strip_all_secrets(text) == text


def test_a_long_text_takes_linear_time():
    text = "x" * 1_000_000 + "://" + ":" * 1_000_000 + " a"
    ended = forked.call(lambda: len(strip_all_secrets(text)))  # it would be hours if it were quadratic
    assert ended == forked.Ended(len(text), "")


def list_errors(kind=NwbrnnError):
    return [kind, *(one for sub in kind.__subclasses__() for one in list_errors(sub))]


@pytest.mark.parametrize("kind", list_errors(), ids=lambda kind: kind.__name__)
def test_every_error_strips_its_message(kind):
    if kind is nwbrnn.errors.TrainingDivergedError:
        error = kind(1, SECRET)
    else:
        error = kind([SECRET]) if kind is nwbrnn.errors.SchemaError else kind(SECRET)
    assert "hush" not in str(error)
    assert PUBLIC in str(error)


def test_source_shows_no_secrets():
    source = find_source(SECRET)
    assert source.url == SECRET
    assert source.text == PUBLIC
    assert "hush" not in repr(source)


def test_command_is_kept_without_secrets(monkeypatch):
    forms = [SECRET, f"--source={SECRET}", f"--json={SECRET}", f"-o{SECRET}", "--map", f"emg={SECRET}"]
    monkeypatch.setattr(sys, "argv", ["nwbrnn", "refit", *forms])
    assert "hush" not in describe_command()
    assert describe_command().count(PUBLIC) == 5
