"""The testbed's own TCP and Linux's understand each other over a path that does what it likes.

By the virtual clock, since losses cost either of them seconds.
"""

from __future__ import annotations

import random
import socket
import threading

import pytest

from testbed import Lab, loads
from testbed.kernel.clock import clock_name

pytestmark = pytest.mark.skipif(
    clock_name() != "virtual", reason="is run by the virtual clock: make test-virtual"
)

PORT = 5000
DATA = random.Random(7).randbytes(10_000_000)
PLAIN = "{net.ipv4.tcp_sack: 0, net.ipv4.tcp_timestamps: 0, net.ipv4.tcp_window_scaling: 0}"


def send(sock, data: bytes) -> threading.Thread:
    """Send all and say that it was all."""

    def run() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def receive(sock) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("opener", ["linux", "ours"])
@pytest.mark.parametrize("sysctls", ["{}", PLAIN], ids=["all options", "no options"])
def test_ten_megabytes_arrive_both_ways(opener: str, sysctls: str):
    other = {"linux": "ours", "ours": "linux"}[opener]
    impairments = "delay: 5ms, loss: 2%, reorder: 1%, duplicate: 1%, rate: 50mbit"
    topology = loads(f"""
name: x
emulator: userspace
nodes:
  linux: {{sysctls: {sysctls}, congestion_control: reno}}
  ours: {{implementation: testbed-tcp, sysctls: {sysctls}}}
links: [{{endpoints: [linux, ours], {impairments}}}]
""")
    with Lab(topology) as lab:
        listener, client = lab[other].tcp_socket(), lab[opener].tcp_socket()
        for sock in (listener, client):
            sock.settimeout(600)
        listener.bind((lab[other].address, PORT))
        listener.listen()
        client.connect((lab[other].address, PORT))
        accepted, _ = listener.accept()
        accepted.settimeout(600)
        for source, sink in ((client, accepted), (accepted, client)):
            sender = send(source, DATA)
            assert receive(sink) == DATA
            sender.join()
        host = lab["ours"].tcp.host
        assert host.counters["repeated"] > 100
        assert host.counters["damaged"] == 0
        for sock in (client, accepted, listener):
            sock.close()
