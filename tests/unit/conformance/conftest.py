"""Traces written as tcpdump prints them or packet by packet, and those of RFC 2525."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from testbed.conformance import Circumstances, Finding, check_trace
from testbed.trace import Trace, read_trace
from testbed.trace.analysis import VantagePoint

TRACES = Path(__file__).parents[2] / "data" / "rfc2525"
Judge = Callable[..., Finding]
Packet = tuple[float, Any]


def read_log(text: str) -> Trace:
    trace = read_trace(io.BytesIO(dedent(text).encode()))
    assert trace.capture.transcript is not None
    assert trace.capture.transcript.skipped == 0
    return trace


def address_of(trace: Trace, name: str) -> str:
    assert trace.capture.transcript is not None
    return {given: address for address, given in trace.capture.transcript.names.items()}[name]


@pytest.fixture
def judge() -> Judge:
    """What one check says of A, or of another one, in a text log.

    at: the name of the host where it was captured.
    """

    def ask(
        problem: str,
        text: str,
        who: str = "A",
        *,
        profile: str = "modern",
        at: str = "",
        default_settings: bool = False,
        plain_close: bool = False,
    ) -> Finding:
        trace = read_log(text)
        vantage = None
        if at:
            first = trace.connections[0].initiator.address == address_of(trace, at)
            vantage = VantagePoint.INITIATOR if first else VantagePoint.RESPONDER
        known = Circumstances(vantage, default_settings, plain_close)
        found = check_trace(trace, profile=profile, problems=[problem], known=known)
        (finding,) = (one for one in found if one.endpoint.address == address_of(trace, who))
        return finding

    return ask


@pytest.fixture
def rfc_trace() -> Callable[[str], str]:
    """The text of a trace of RFC 2525, without its comments."""

    def read(name: str) -> str:
        text = (TRACES / f"{name}.txt").read_text()
        return "".join(
            line for line in text.splitlines(keepends=True) if not re.match(r"#|\s*$", line)
        )

    return read


def a_to_b(at: float, *, data: bytes = b"", ip: dict[str, Any] | None = None, **tcp: Any) -> Packet:
    header = TCP(**{"sport": 4000, "dport": 80, "flags": "A", "seq": 1001, "ack": 5001, **tcp})
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packet = frame / IP(src="10.0.0.1", dst="10.0.0.2", **(ip or {})) / header
    return at, packet / Raw(data) if data else packet


def b_to_a(at: float, **tcp: Any) -> Packet:
    header = TCP(**{"sport": 80, "dport": 4000, "flags": "A", "seq": 5001, "ack": 1001, **tcp})
    frame = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    return at, frame / IP(src="10.0.0.2", dst="10.0.0.1") / header


def handshake(mss: int = 1460) -> list[Packet]:
    return [
        a_to_b(0.0, flags="S", seq=1000, ack=0, options=[("MSS", mss)]),
        b_to_a(0.01, flags="SA", seq=5000, options=[("MSS", mss)]),
        a_to_b(0.0101),
    ]


def ask(problem: str, packets: list[Packet], snap: int = 0) -> Finding:
    """What the check says of A."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for time, packet in packets:
        raw = bytes(packet)
        kept = raw[: snap or None]
        stamp = divmod(round(time * 1e6), 10**6)
        records.append(struct.pack("<IIII", *stamp, len(kept), len(raw)) + kept)
    found = check_trace(read_trace(io.BytesIO(b"".join(records))), problems=[problem])
    return next(one for one in found if one.endpoint.address == "10.0.0.1")
