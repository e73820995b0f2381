"""A host whose TCP is the testbed's own: to everybody else it is a host like any other."""

from __future__ import annotations

import errno
import socket
import threading
import time
from pathlib import Path

import pytest

from testbed import Lab, loads
from testbed.errors import TopologyError

TOPOLOGY = """
name: x
nodes:
  linux: {}
  ours: {implementation: testbed-tcp}
links: [{endpoints: [linux, ours], emulated: true}]
"""
PORT = 5000


@pytest.fixture
def lab():
    with Lab(loads(TOPOLOGY)) as running:
        yield running


def connected(lab: Lab, opener: str, family: int = socket.AF_INET):
    """Both ends of a connection, that of Linux first, and the listener."""
    other = {"linux": "ours", "ours": "linux"}[opener]
    address = lab[other].address6 if family == socket.AF_INET6 else lab[other].address
    listener, client = lab[other].tcp_socket(family), lab[opener].tcp_socket(family)
    for sock in (listener, client):
        sock.settimeout(10)
    listener.bind((address, PORT))
    listener.listen()
    client.connect((address, PORT))
    accepted, where = listener.accept()
    accepted.settimeout(10)
    assert where[1] == client.getsockname()[1]
    return (client, accepted) if opener == "linux" else (accepted, client)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("opener", ["linux", "ours"])
def test_it_talks_with_linux(lab: Lab, opener: str, family: int):
    linux, ours = connected(lab, opener, family)
    data = bytes(range(256)) * 2000
    for source, sink in ((linux, ours), (ours, linux)):
        sender = threading.Thread(target=lambda s=source: (s.sendall(data), s.shutdown(1)))
        sender.start()
        parts = []
        while part := sink.recv(1 << 16):
            parts.append(part)
        sender.join()
        assert b"".join(parts) == data


def test_everything_else_is_still_the_kernels(lab: Lab):
    assert lab["linux"].ping("ours") < 1
    assert lab["ours"].ping("linux") < 1
    with lab["ours"].socket(kind=socket.SOCK_DGRAM) as sink:
        sink.bind((lab["ours"].address, 53))
        sink.settimeout(5)
        lab["linux"].socket(kind=socket.SOCK_DGRAM).sendto(b"?", (lab["ours"].address, 53))
        assert sink.recv(9) == b"?"


def test_errors_are_those_of_sockets(lab: Lab):
    for one, other in (("linux", "ours"), ("ours", "linux")):
        sock = lab[one].tcp_socket()
        sock.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            sock.connect((lab[other].address, 9))
    linux, ours = connected(lab, "linux")
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    ours.sendall(b"unread")
    time.sleep(0.2)  # until it is there
    linux.close()
    ours.settimeout(5)
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"more")
    with pytest.raises(OSError) as raised:
        ours.setsockopt(socket.IPPROTO_TCP, 9999, 1)
    assert raised.value.errno == errno.ENOPROTOOPT


def test_who_waits_is_told_when_the_lab_ends():
    outcome = []
    with Lab(loads(TOPOLOGY)) as lab:
        _, ours = connected(lab, "linux")
        ours.settimeout(None)

        def wait() -> None:
            try:
                ours.recv(1)
            except OSError as error:
                outcome.append(error.errno)

        waiting = threading.Thread(target=wait)
        waiting.start()
        lab.link("linux", "ours").cut()  # the other end says nothing of its end
    waiting.join(10)
    assert outcome == [errno.ESHUTDOWN]


def test_the_thread_gives_its_descriptors_back():
    def descriptors() -> int:
        links = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        return sum(str(link).startswith("anon_inode:") for link in links)

    before = descriptors()
    with Lab(loads(TOPOLOGY)) as lab:
        connected(lab, "linux")
        assert descriptors() > before
    assert descriptors() == before


def test_only_the_own_tcp_has_faults():
    with pytest.raises(TopologyError, match="only `implementation: testbed-tcp` can have a fault"):
        loads("{name: x, nodes: {a: {fault: stretch-ack}}}")
    with pytest.raises(TopologyError, match="stretch-ack"):
        loads("{name: x, nodes: {a: {implementation: testbed-tcp, fault: stretch-acks}}}")
