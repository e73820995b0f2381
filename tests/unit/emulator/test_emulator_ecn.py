"""Marking congestion in frames."""

from __future__ import annotations

import pytest
from emulator_frames import UNICAST, ethernet, internet_checksum, ipv4, ipv6, tcp

from testbed.emulator.elements.ecn import marked


@pytest.mark.parametrize("codepoint", [1, 2, 3])
@pytest.mark.parametrize("dscp", [0, 0b101110])
def test_marking_sets_congestion_experienced_and_mends_the_checksum(codepoint, dscp):
    frame = ethernet(ipv4(tcp(), tos=dscp << 2 | codepoint))
    changed = marked(frame)
    assert changed is not None
    assert changed[15] == dscp << 2 | 3
    assert internet_checksum(changed[14:34]) == 0
    assert changed[34:] == frame[34:]


def test_marking_ipv6_sets_the_traffic_class():
    frame = ethernet(ipv6(tcp(), traffic_class=0b10111010))
    changed = marked(frame)
    assert changed is not None
    assert changed[14:18] == (6 << 28 | 0b10111011 << 20).to_bytes(4, "big")
    assert changed[18:] == frame[18:]


@pytest.mark.parametrize("frame", [ethernet(ipv4(tcp())), ethernet(ipv6(tcp())), UNICAST, b""])
def test_what_is_not_ecn_capable_cannot_be_marked(frame):
    assert marked(frame) is None
