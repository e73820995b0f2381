"""What checks cost: it grows with the length of a connection, whatever that holds."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from testbed.conformance import check_trace
from testbed.trace import read_trace

NUMBER = 24_000
Packet = tuple[bool, int, int, float]  # by A, sequence number or ACK, bytes of payload, s later


def capture(packets: Iterator[Packet]) -> bytes:
    """Of IP packets without payload and with wrong checksums, after a handshake."""
    records = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101)]
    now = 0.0
    first: list[tuple[bool, int, int, float, int]] = [(True, 0, 0, 0, 2), (False, 1, 0, 0.01, 18)]
    later = ((*packet, 16) for packet in packets)
    for count, (own, number, size, pause, flags) in enumerate([*first, *later], 1):
        now += pause
        seq, ack = (number, 1) if own else (flags == 16, number)
        hosts = struct.pack("!II", 0x0A000001 + (not own), 0x0A000001 + own)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 40 + size, count & 0xFFFF, 0, 64, 6, 0) + hosts
        ports = (4000, 80) if own else (80, 4000)
        head += struct.pack("!HHIIBBHI", *ports, seq, ack * (flags != 2), 0x50, flags, 65535, 0)
        stamp = int(now), int(now % 1 * 1e9)
        records.append(struct.pack("<IIII", *stamp, len(head), 40 + size) + head)
    return b"".join(records)


def all_sent_twice() -> Iterator[Packet]:
    for _ in range(2):
        for n in range(NUMBER // 2):
            yield True, 1 + 100 * n, 100, 0.0001
    yield False, 1 + 100 * (NUMBER // 2), 0, 1


def all_timed_out() -> Iterator[Packet]:
    for n in range(NUMBER // 3):
        yield True, 1 + 100 * n, 100, 0.001
        yield True, 1 + 100 * n, 100, 0.5
        yield False, 101 + 100 * n, 0, 0.02


def never_answered() -> Iterator[Packet]:
    for _ in range(NUMBER):
        yield True, 1, 100, 1


def acknowledged_late() -> Iterator[Packet]:
    for n in range(NUMBER // 2):
        yield True, 1 + 100 * n, 100, 0.0001
    for n in range(NUMBER // 2):
        yield False, 101 + 100 * n, 0, 0.0001


@pytest.mark.parametrize("kind", [all_sent_twice, all_timed_out, never_answered, acknowledged_late])
def test_a_long_connection_costs_what_its_length_is(kind: Callable[[], Iterator[Packet]]) -> None:
    trace = read_trace(io.BytesIO(capture(kind())))
    began = time.process_time()
    check_trace(trace)
    assert time.process_time() - began < 15  # a second or two; minutes, where it is by the square
