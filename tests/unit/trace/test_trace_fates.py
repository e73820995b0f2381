"""The log of fates read back; what is no such log is refused by its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.emulator.fate import HEADER
from testbed.errors import TraceError
from testbed.trace import Fate, read_fates

GOOD = "forward,1,100,0,5,20005,20010,sent\nreverse,2,60,3,7,,9,queue\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "fates.csv"
    path.write_text(text)
    return path


def test_a_log_is_read(tmp_path):
    sent, dropped = read_fates(write(tmp_path, HEADER + GOOD))
    assert sent == Fate(
        direction="forward", number=1, size=100, waiting=0, came=5, due=20005, left=20010,
        verdict="sent",
    )  # fmt: skip
    assert not sent.dropped
    assert dropped.dropped and dropped.due is None and dropped.waiting == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ":1: this is no log of fates"),
        ("name: t\n", ":1: this is no log of fates"),
        (HEADER + GOOD + "forward,1", ":4: the file stops in the middle"),
        (HEADER + "forward,1,100,0,5,20005,20010,sent,x\n", ":2: expected direction,packet"),
        (HEADER + "sideways,1,100,0,5,20005,20010,sent\n", ":2: expected"),
        (HEADER + "forward,-1,100,0,5,20005,20010,sent\n", ":2: expected"),
        (HEADER + "forward,1,100,0,5,x,20010,sent\n", ":2: expected"),
        (HEADER + f"forward,{'9' * 100},100,0,5,,20010,sent\n", ":2: expected"),
        (HEADER + "f" * 10_000, ":2: the file stops in the middle"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, text, told):
    with pytest.raises(TraceError, match=told):
        list(read_fates(write(tmp_path, text)))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        list(read_fates(tmp_path / "nothing"))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path, data, headed):
    path = tmp_path / "any"
    path.write_bytes(HEADER.encode() * headed + data)
    with contextlib.suppress(TraceError):
        assert all(isinstance(fate, Fate) for fate in read_fates(path))
