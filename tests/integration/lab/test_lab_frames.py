"""Frames that no impairment is about pass a link as they are, whatever they may be."""

from __future__ import annotations

import socket
import struct

import pytest
from lab_topologies import pair

from testbed.lab import Lab
from testbed.topology.model import (
    Codel,
    Corrupt,
    DropRule,
    GilbertElliott,
    Impairments,
    Jitter,
    Queue,
)

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
# include/uapi/linux/if_packet.h, struct tpacket_auxdata
AUXDATA = struct.Struct("=IIIHHHH")
VLAN_VALID, TPID_VALID = 0x10, 0x40
SOURCE = bytes.fromhex("02fe00000001")
# Every element that looks into frames, set so that it does not act.
BUSY = Impairments(
    rate=1e9,
    delay=0.001,
    queue=Queue(aqm=Codel(), ecn=True),
    drop=(DropRule(packet=10**6), DropRule(flags="SYN", nth=10**6)),
    corrupt=Corrupt(probability=0.0, where="payload"),
    loss_model=GilbertElliott(p=0.0, r=1.0),
    jitter=Jitter(spread=0.0),
)
GARBAGE = bytes(range(256)) * 36
IPV4 = bytes.fromhex("45000028000040004006")
IPV6 = bytes.fromhex("60000000ffff06402001")


def ethernet(kind: int, payload: bytes, tags: tuple[int, ...] = ()) -> bytes:
    head = b"\x02\x00\x00\x00\x00\x02" + SOURCE
    for tag in tags:
        head += struct.pack("!HH", 0x8100, tag)
    return head + kind.to_bytes(2, "big") + payload


FRAMES = {
    "nothing but a header": ethernet(0x88B5, b""),
    "a runt": ethernet(0x88B5, b"x"),
    "an unknown type": ethernet(0x88B5, GARBAGE[:100]),
    "802.3 with a length": ethernet(0x0030, GARBAGE[:48]),
    "a jumbo frame": ethernet(0x88B5, GARBAGE[:9000]),
    "ARP that is none": ethernet(0x0806, GARBAGE[:10]),
    "IPv4 cut short": ethernet(0x0800, IPV4[:7]),
    "IPv4 that is garbage": ethernet(0x0800, GARBAGE[:60]),
    "IPv4 with a false length": ethernet(0x0800, IPV4 + bytes(10)),
    "IPv4 with a false header length": ethernet(0x0800, b"\x4f" + IPV4[1:] + bytes(10)),
    "TCP cut short": ethernet(0x0800, IPV4 + bytes(10) + b"\x12\x34\x00\x50\x00"),
    "TCP with a false offset": ethernet(
        0x0800, IPV4 + bytes(10) + bytes(12) + b"\xf0\x02" + bytes(6)
    ),
    "IPv6 cut short": ethernet(0x86DD, IPV6),
    "IPv6 with endless options": ethernet(0x86DD, IPV6[:6] + b"\x00" + bytes(200)),
    "a VLAN tag": ethernet(0x88B5, GARBAGE[:50], (0x6005,)),
    "IPv4 in a VLAN": ethernet(0x0800, IPV4 + bytes(30), (7,)),
    "two VLAN tags": ethernet(0x88B5, GARBAGE[:50], (5, 6)),
    "a VLAN tag and hardly more": ethernet(0x88B5, b"xx", (5,)),
    "IPv4 as long as may be": ethernet(0x0800, IPV4 + GARBAGE[:8990]),
}


def receive(tap: socket.socket) -> bytes:
    """The next frame of ours, with the outer VLAN tag that the kernel has put aside."""
    while True:
        data, ancillary, _, _ = tap.recvmsg(20_000, 200)
        if data[6:12] != SOURCE:
            continue
        for level, kind, content in ancillary:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, *_, tci, tpid = AUXDATA.unpack(content[: AUXDATA.size])
                if status & VLAN_VALID:
                    kind_of_tag = tpid if status & TPID_VALID else 0x8100
                    return data[:12] + struct.pack("!HH", kind_of_tag, tci) + data[12:]
        return data


@pytest.mark.parametrize("impairments", [Impairments(), BUSY], ids=["plain", "busy"])
def test_frames_of_any_kind_pass_untouched(impairments):
    described = pair(forward=impairments, reverse=impairments, emulated=True, mtu=9000)
    with Lab(described) as lab:
        sockets = [
            lab[name].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            for name in ("a", "b")
        ]
        for one in sockets:
            one.bind(("eth0", ETH_P_ALL))
            one.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            one.settimeout(30)
        for sender, receiver in (sockets, sockets[::-1]):
            for what, frame in FRAMES.items():
                sender.send(frame)
                assert receive(receiver) == frame, what
        sockets[0].settimeout(0)  # what it sent itself
        with pytest.raises(BlockingIOError):
            while True:
                sockets[0].recv(20_000)
        counted = lab.link("a", "b").counters
        for one in (counted.forward, counted.reverse):
            assert one.packets_in == one.packets_out >= len(FRAMES)
            assert not any(one.dropped.values())
        assert lab["a"].ping("b") < 1
