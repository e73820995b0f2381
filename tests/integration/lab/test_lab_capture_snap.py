"""Captures that keep the beginning of each frame only."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from testbed import Lab, loads, read_trace

SNAP = 128
TEXT = f"""
name: snap
nodes: {{a: {{}}, b: {{}}}}
links: [{{endpoints: [a:eth0, b:eth0]}}]
captures: [{{interface: a:eth0, snap: {SNAP}}}, b:eth0]
"""
SIZE = 100_000


def kept_bytes(path: Path) -> list[int]:
    """How many bytes of each frame are in the file (pcap-savefile(5))."""
    data, at, found = path.read_bytes(), 24, []
    while at < len(data):
        found.append(struct.unpack_from("<I", data, at + 8)[0])
        at += 16 + found[-1]
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_a_snapped_capture_has_all_headers_and_lengths(tmp_path: Path, family: int) -> None:
    with Lab(loads(TEXT), captures=tmp_path) as lab:
        address = lab["b"].first_address(family)
        listener = lab["b"].listen(80, address=address)
        with lab["a"].socket(listener.family) as client:
            client.connect((address, 80))
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(bytes(SIZE))
                left = SIZE
                while left:
                    left -= len(accepted.recv(left))
    snapped, whole = tmp_path / "a-eth0.pcap", tmp_path / "b-eth0.pcap"
    assert max(kept_bytes(snapped)) == SNAP < 1500 < max(kept_bytes(whole))
    for path in (snapped, whole):
        (connection,) = read_trace(path).connections
        assert connection.by_initiator.unique_bytes == SIZE
        assert connection.handshake_rtt is not None
