"""Where the bytes come from: compressed files, streams, and libraries that are not there."""

from __future__ import annotations

import gzip
import io
import random
import struct
import subprocess
import sys

import pytest

from testbed.errors import TraceError
from testbed.trace import read_trace


def _compress(form: str, data: bytes) -> bytes:
    if form == "gz":
        return gzip.compress(data)
    if form == "zst":
        return pytest.importorskip("zstandard").compress(data)
    return pytest.importorskip("lz4.frame").compress(data)


@pytest.fixture
def capture(talk, pcap) -> bytes:
    t = talk()
    t.handshake()
    noise = random.Random(1)  # does not get smaller, so that there is more than one block
    for number in range(500):
        t.client(20 + number, "PA", 1 + 1000 * number, 1, data=noise.randbytes(1000))
    return pcap(t.packets)


@pytest.mark.parametrize("form", ["gz", "zst", "lz4"])
def test_a_compressed_capture_reads_the_same(read, capture, form):
    trace = read(_compress(form, capture), name=f"a.pcap.{form}")
    assert [(s.time, s.seq, s.payload) for s in trace.segments] == [
        (s.time, s.seq, s.payload) for s in read(capture).segments
    ]
    assert (len(trace.segments), trace.damage, trace.truncated) == (503, "", False)


@pytest.mark.parametrize("form", ["gz", "zst", "lz4"])
def test_a_compressed_capture_is_read_up_to_where_it_is_damaged(read, capture, form):
    packed = _compress(form, capture)
    for broken in (packed[:-4], packed[: len(packed) // 2]):
        trace = read(broken)
        assert "cannot be decompressed further" in trace.damage or trace.truncated
        assert len(trace.segments) > 100
    with pytest.raises(TraceError, match=r"cannot be decompressed|not a capture file"):
        read(packed[:20])


def test_a_large_content_goes_to_a_file_and_a_huge_one_is_refused(read, capture, monkeypatch):
    monkeypatch.setattr("testbed.trace.source._MAPPED_FROM", 1000)
    assert len(read(gzip.compress(capture)).segments) == 503
    monkeypatch.setattr("testbed.trace.source._LARGEST_CONTENT", len(capture) - 1)
    with pytest.raises(TraceError, match="holds more than 0 GiB when decompressed"):
        read(gzip.compress(capture))


@pytest.mark.parametrize(
    ("magic", "module", "told"),
    [
        (b"\x28\xb5\x2f\xfd", "zstandard", r"testbed\[compression\].*zstd -dc .*testbed trace -"),
        (b"\x04\x22\x4d\x18", "lz4.frame", r"testbed\[compression\].*lz4 -dc .*testbed trace -"),
    ],
)
def test_a_library_that_is_missing_is_named(read, monkeypatch, magic, module, told):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TraceError, match=told):
        read(magic + bytes(100))


@pytest.mark.parametrize("form", ["", "gz"])
def test_a_stream_is_read_like_a_file(capture, form):
    data = _compress(form, capture) if form else capture
    trace = read_trace(io.BytesIO(data))
    assert (len(trace.segments), str(trace.path)) == (503, "-")


def test_progress_is_told_up_to_the_end(capture, tmp_path):
    path, told = tmp_path / "a.pcap", []
    path.write_bytes(capture)
    read_trace(path, progress=lambda done, size: told.append((done, size)))
    assert told[-1] == (len(capture), len(capture))
    assert told == sorted(told)


@pytest.mark.parametrize("packed", [False, True])
def test_a_long_stream_is_read_in_bounded_memory(packed):
    """What is no TCP leaves nothing behind, so memory must not grow with the stream."""
    size, count = 250_000, 1600  # 400 MB
    program = (
        "import re, sys; from testbed.trace import read_trace\n"
        "most = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = most(); trace = read_trace(sys.stdin.buffer)\n"
        "print(trace.packets, (most() - before) >> 10)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    record = struct.pack("<IIII", 1, 0, size, size) + bytes(size)
    with process.stdin as plain:
        target = gzip.GzipFile(fileobj=plain, mode="wb", compresslevel=1) if packed else plain
        with target:
            target.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, size, 1))
            for _ in range(count):
                target.write(record)
    packets, grown = process.stdout.read().split()
    process.stdout.close()
    assert process.wait() == 0
    assert int(packets) == count
    assert int(grown) < 250  # MiB
