"""The log: what gets into it, how its files rotate, and who may read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from box_bench import Bench
from packet_bench import IPV4_KEY, IPV6_KEY

from testbed.errors import LabError
from testbed.middlebox.functions.trace_log.files import (
    MEMORY_LIMIT,
    DirectoryStore,
    MemoryStore,
    RotatingLog,
)
from testbed.middlebox.functions.trace_log.function import TraceLog
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import OUTSIDE


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    found = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield found
    os.close(found)


def log_of(bench: Bench) -> TraceLog:
    function = bench.pipeline.functions["trace-log"]
    assert isinstance(function, TraceLog)
    return function


def said(bench: Bench) -> list[str]:
    """The lines without their times."""
    return [line.partition(" ")[2] for line in log_of(bench).log_lines(100)]


@pytest.mark.parametrize("in_memory", [False, True])
def test_full_files_are_renamed_upwards_and_the_oldest_is_overwritten(
    directory, tmp_path, in_memory
):
    store = MemoryStore() if in_memory else DirectoryStore(directory, "serviced", 0o600)
    log = RotatingLog(store, size=30, files=3)  # three lines of ten bytes each
    for number in range(14):
        log.write(f"line {number:04}")
    assert log.last(100) == [f"line {number:04}" for number in range(3, 14)]
    assert log.last(4) == [f"line {number:04}" for number in range(10, 14)]
    assert log.last(1) == ["line 0013"]
    if not in_memory:
        contents = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
        assert contents.keys() == {"serviced", "serviced.0", "serviced.1", "serviced.2"}
        assert contents["serviced"][1::2] == ["0012", "0013"]
        assert contents["serviced.0"][1::2] == ["0009", "0010", "0011"]
        assert contents["serviced.2"][1::2] == ["0003", "0004", "0005"]
        assert all(path.stat().st_size <= 30 for path in tmp_path.iterdir())
    log.files = 2
    for number in range(14, 17):
        log.write(f"line {number:04}")
    assert len(log.last(100)) == 2 + 2 * 3
    log.close()


def test_memory_has_a_limit_whatever_is_asked():
    log = RotatingLog(MemoryStore(), size=1 << 20, files=1000)
    for _ in range(25):
        log.write("x" * (1 << 20))
    assert MEMORY_LIMIT // (1 << 20) - 1 <= len(log.last(100)) <= MEMORY_LIMIT // (1 << 20) + 1


@pytest.mark.parametrize(("readable", "mode"), [(False, 0o600), (True, 0o644)])
def test_the_files_are_the_owners_alone_unless_asked(directory, tmp_path, readable, mode):
    before = os.umask(0o077 if readable else 0)
    try:
        store = DirectoryStore(directory, "serviced", 0o644 if readable else 0o600)
        store.rotate(3)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {mode}
    store.close()


def test_what_lies_there_is_neither_followed_nor_read(directory, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "serviced").symlink_to(victim)
    (tmp_path / "serviced.0").write_text("of an earlier run\n")
    (tmp_path / "serviced.txt").write_text("other")
    log = RotatingLog(DirectoryStore(directory, "serviced", 0o600), size=30, files=2)
    log.write("new")
    assert victim.read_text() == "mine" and log.last(9) == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"serviced", "serviced.txt", "victim"}
    log.close()


@pytest.mark.parametrize(
    "bad",
    [
        {"files": 1},
        {"files": 1001},
        {"size": 9_999},
        {"size": (1 << 30) + 1},
        {"match": "("},
        {"match": r"(a)\1"},
        {"file": "../passwd"},
        {"file": ""},
        {"file": ".hidden"},
        {"file": "a/b"},
        {"file": "a\n"},
        {"flags": ["everything"]},
    ],
)
def test_bad_values_are_refused(bad):
    with pytest.raises(LabError, match=f"trace-log.*{next(iter(bad))}"):
        Bench(("trace-log", bad))


def test_the_defaults_are_those_of_the_document():
    options = TraceLog.Options()
    assert (options.file, options.files, options.size) == ("serviced", 3, 128 * 1024)
    assert not options.world_readable and options.flags == ()


def test_only_important_events_are_logged_without_flags():
    bench = Bench(("trace-log", {}))
    bench.pipeline.note("init", "starts", important=True)
    bench.pipeline.note("show", "counters")
    bench.put(OUTSIDE, tcp_segment(IPV4_KEY, seq=1, flags=SYN))
    assert said(bench) == ["init: starts"]


def test_handshakes_and_ends_of_connections_are_told_apart():
    bench = Bench(("trace-log", {"flags": ["handshake"]}))
    for flags in (SYN, SYN | ACK, ACK, FIN | ACK, RST):
        bench.put(OUTSIDE, tcp_segment(IPV4_KEY, seq=1, flags=flags))
    flow = "10.0.1.1 port 40000 to 10.0.2.2 port 80, from outside"
    assert said(bench) == [f"handshake: SYN {flow}", f"handshake: SYN ACK {flow}"]
    bench.pipeline.set_options("trace-log", {"flags": ["removed-client"]})
    for flags in (SYN, FIN | ACK, RST):
        bench.put(OUTSIDE, tcp_segment(IPV6_KEY, seq=1, flags=flags))
    flow = "2001:db8:1::1 port 40000 to 2001:db8:2::2 port 80, from outside"
    assert said(bench)[2:] == [f"removed-client: FIN {flow}", f"removed-client: RST {flow}"]


def test_only_lines_that_match_are_logged():
    bench = Bench(("trace-log", {"flags": ["all"], "match": "^.* show: (two|three)$"}))
    for word in ("one", "two", "three"):
        bench.pipeline.note("show", word)
    assert said(bench) == ["show: two", "show: three"]
    assert log_of(bench).counters == {"lines": 2, "lines-not-matched": 1}


@pytest.mark.parametrize("match", ["(a+)+$", "(a|a)*$", "(.*a){20}$", "a" * 200])
def test_no_expression_stalls_the_box(match):
    """An engine that backtracks takes longer than the universe for the first of these."""
    bench = Bench(("trace-log", {"flags": ["all"], "match": match}))
    for _ in range(100):
        bench.pipeline.note("show", "a" * 900 + "!")
    assert log_of(bench).counters.total() == 100
    bench.pipeline.note("show", "a" * 990)
    assert log_of(bench).counters["lines"] >= 1


def test_an_event_is_one_line_however_long_or_strange():
    bench = Bench(("trace-log", {}))
    bench.pipeline.note("config", "a\nb\u2028c" + "x" * 10_000, important=True)
    (line,) = said(bench)
    assert line.startswith("config: a?b?cx") and len(line) < 1100


def test_a_disabled_log_is_silent_and_a_renamed_one_begins_anew():
    bench = Bench(("trace-log", {"flags": ["all"]}))
    bench.pipeline.note("show", "one")
    bench.pipeline.switch("trace-log", False)
    bench.pipeline.note("show", "two")
    bench.pipeline.switch("trace-log", True)
    bench.pipeline.set_options("trace-log", {"size": 10_000})
    assert said(bench) == ["show: one"]
    bench.pipeline.set_options("trace-log", {"file": "other"})
    assert said(bench) == []


def test_a_full_disk_loses_lines_and_is_counted(monkeypatch):
    def refuse(log: RotatingLog, line: str) -> None:
        raise OSError(28, "No space left on device")

    bench = Bench(("trace-log", {"flags": ["all"]}))
    monkeypatch.setattr(RotatingLog, "write", refuse)
    assert len(bench.put(OUTSIDE, tcp_segment(IPV4_KEY, seq=1, flags=SYN))) == 1
    assert log_of(bench).counters == {"lines-lost": 1}
