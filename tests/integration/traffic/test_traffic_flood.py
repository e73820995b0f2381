"""SYNs from forged addresses, as they arrive."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from testbed.errors import LabError
from testbed.kernel.processes.userns import needed
from testbed.lab import Lab
from testbed.traffic import SynFlood
from testbed.wire.flags import SYN

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("pair") as running:
        yield running


def test_every_syn_comes_from_another_address_and_none_after_the_end(lab):
    attacker, target = list(lab.nodes.values())[:2]
    with target.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as seen:
        seen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        seen.settimeout(20)
        started = time.monotonic()
        with SynFlood(attacker, target.address, 80, rate=1000) as flood:
            packets = [seen.recv(2000) for _ in range(50)]
        assert flood.sent <= 1000 * (time.monotonic() - started) + 1
        while len(packets) < flood.sent:
            packets.append(seen.recv(2000))
        seen.settimeout(0.1)
        with pytest.raises(TimeoutError):
            seen.recv(2000)
    assert len({packet[12:16] for packet in packets}) == len(packets)
    assert {packet[20 + 13] for packet in packets} == {SYN}
    assert {packet[22:24] for packet in packets} == {(80).to_bytes(2, "big")}


def test_what_cannot_be_sent_is_told(lab):
    attacker, target = list(lab.nodes.values())[:2]
    with (
        pytest.raises(LabError, match=r"flood .* after 0 SYNs: .*unreachable"),
        SynFlood(attacker, "203.0.113.1", 80, rate=1000),
    ):
        attacker.ping(target, timeout=20)  # takes longer than the first one to be due


def test_a_rate_of_nothing_sends_nothing(lab):
    attacker, target = list(lab.nodes.values())[:2]
    with SynFlood(attacker, target.address, 80, rate=0) as flood:
        pass
    assert flood.sent == 0
