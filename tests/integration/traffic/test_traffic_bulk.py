"""Bulk transfers: byte by byte, both ways, and never wrong in silence."""

from __future__ import annotations

import socket

import pytest

from testbed.errors import LabError
from testbed.lab import Lab
from testbed.topology.vary import with_link, with_node
from testbed.topology.yaml.load import loads
from testbed.traffic import bulk, transfer

PATH = loads("""
name: bulk
nodes:
  client: {congestion_control: reno}
  server: {congestion_control: cubic}
links:
  - {endpoints: [client, server], delay: 5ms, rate: 20mbit}
""")
SIZE = 1_000_003  # neither a multiple of a segment nor of a block


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("direction", "sender"), [("upload", "reno"), ("download", "cubic")])
def test_a_transfer_takes_the_time_that_its_size_needs(direction, sender, family):
    with Lab(PATH) as lab:
        done = transfer(lab["client"], lab["server"], SIZE, direction=direction, family=family)
    assert done.size == SIZE
    assert done.congestion_control == sender
    assert 0.01 <= done.connect <= done.first_byte <= done.last_byte
    # 1448 of each 1514 bytes on the wire are payload; no goodput can be above that.
    assert done.goodput < 20e6 * 1448 / 1514
    assert done.goodput > 20e6 / 4
    assert done.info.bytes_sent >= SIZE


@pytest.mark.parametrize("asked", [False, True])
def test_a_server_speaks_first_unless_it_is_asked(asked):
    with Lab(PATH) as lab:
        done = transfer(lab["client"], lab["server"], SIZE, direction="download", asked=asked)
    assert done.size == SIZE
    assert done.info.bytes_received == asked + 1  # the FIN counts as well


def test_loss_costs_retransmissions_but_no_bytes():
    lossy = with_link(PATH, "client", "server", loss=0.02)
    with Lab(lossy) as lab:
        done = transfer(lab["client"], lab["server"], SIZE)
    assert done.info.total_retrans > 0


class Altering(socket.socket):
    """Sends one byte at OFFSET of the stream as another."""

    OFFSET = 300_001

    def sendall(self, data, flags=0):
        begin = getattr(self, "sent", 0)
        self.sent = begin + len(data)
        if begin <= self.OFFSET < self.sent:
            data = bytearray(data)
            data[self.OFFSET - begin] ^= 1
        super().sendall(data, flags)


def test_a_changed_byte_is_noticed(monkeypatch):
    send = bulk._Side.send

    def altering(self, sock, size):
        with Altering(fileno=socket.dup(sock.fileno())) as other:
            send(self, other, size)

    monkeypatch.setattr(bulk._Side, "send", altering)
    with Lab(PATH) as lab, pytest.raises(LabError, match=r"not byte-exact.*with other content"):
        transfer(lab["client"], lab["server"], 400_000)


def test_a_missing_end_is_noticed(monkeypatch):
    class Truncating(bulk._Side):
        def send(self, sock, size):
            super().send(sock, size - 1)

    monkeypatch.setattr(bulk, "_Side", Truncating)
    with Lab(PATH) as lab, pytest.raises(LabError, match="10000 bytes sent, 9999 received"):
        transfer(lab["client"], lab["server"], 10_000)


def test_a_transfer_that_stalls_is_an_error():
    with Lab(with_node(PATH, "client", sysctls={"net.ipv4.tcp_syn_retries": "1"})) as lab:
        lab.link("client", "server").cut()
        with pytest.raises(LabError, match="ended after 0"):
            transfer(lab["client"], lab["server"], 1000, timeout=0.5)
