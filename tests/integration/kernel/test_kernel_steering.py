"""Receive packet steering of TUN devices, seen by the processor that a packet arrives on."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from testbed.errors import KernelError
from testbed.kernel.devices import backlog, steering, tun
from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Netlink

CPUS = sorted(os.sched_getaffinity(0))
INDEX, PORT = 50, 9000
SO_INCOMING_CPU = 49  # include/uapi/asm-generic/socket.h

needs_two = pytest.mark.skipif(len(CPUS) < 2, reason="steering takes two processors")


@pytest.fixture
def namespace():
    thread = NamespaceThread()
    made = thread.create_namespace()
    yield made
    made.close()
    thread.close()


@pytest.fixture
def opened(namespace):
    """Makes a steered TUN device with an address."""
    fds = []

    def open_one(cpus, name="box", address="192.0.2.1/24"):
        index = INDEX + len(fds)
        device = namespace.call(steering.open_steered, tun.open_tun, name, index, cpus)
        fds.append(device.fd)
        set_up(namespace, name, index, address)
        return device

    yield open_one
    for fd in fds:
        os.close(fd)


def set_up(namespace, name: str, index: int, address: str) -> None:
    with namespace.call(Netlink) as netlink:
        netlink.execute(
            [
                rtnetlink.set_link(index, name, up=True),
                rtnetlink.add_address(index, name, address),
            ]
        )


def arrival(namespace, fd: int, writer: int) -> int:
    """The processor that takes in a packet which is written on the processor `writer`."""
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("192.0.2.1", PORT))
        receiver.connect(("192.0.2.2", PORT))  # the kernel notes it for connected sockets only
        receiver.settimeout(5)

        def write() -> None:
            os.sched_setaffinity(0, {writer})  # of this thread
            os.write(fd, datagram())

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert receiver.recv(100) == b"hello"
        return receiver.getsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU)


def datagram() -> bytes:
    """UDP over IPv4, from 192.0.2.2 to 192.0.2.1, its checksum left out (RFC 768)."""
    udp = struct.pack(">HHHH", PORT, PORT, 8 + 5, 0) + b"hello"
    addresses = socket.inet_aton("192.0.2.2") + socket.inet_aton("192.0.2.1")
    header = struct.pack(">BxHxxxxBBH", 0x45, 20 + len(udp), 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + header[12:] + udp


@needs_two
@pytest.mark.parametrize("older", [False, True], ids=["by default mask", "by sysfs"])
def test_packets_arrive_on_the_processors_asked_for(namespace, opened, monkeypatch, older):
    if older:  # what a kernel before 6.3 has not got
        monkeypatch.setattr(steering, "DEFAULT_MASK", "/proc/sys/net/core/no_such_mask")
    writer, other = CPUS[:2]
    device = opened([other])
    if device.unsteered is not None:
        pytest.skip(device.unsteered)
    assert arrival(namespace, device.fd, writer) == other
    assert arrival(namespace, device.fd, other) == other


@needs_two
def test_devices_that_are_made_later_are_not_steered(namespace, opened):
    opened(CPUS[1:2], "steered", "198.51.100.1/24")
    fd = namespace.call(tun.open_tun, "box", INDEX + 1)
    set_up(namespace, "box", INDEX + 1, "192.0.2.1/24")
    assert arrival(namespace, fd, CPUS[0]) == CPUS[0]
    os.close(fd)


def test_where_nothing_steers_the_device_works_all_the_same(namespace, opened, monkeypatch):
    monkeypatch.setattr(steering, "DEFAULT_MASK", "/proc/sys/net/core/no_such_mask")

    def refuse(kind: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(steering, "mount_detached", refuse)
    device = opened(CPUS)
    assert "Operation not permitted" in device.unsteered
    assert arrival(namespace, device.fd, CPUS[-1]) == CPUS[-1]


def test_a_device_that_cannot_be_made_leaves_nothing_set(namespace):
    namespace.call(Path(steering.DEFAULT_MASK).write_text, "1")

    def fail(name: str, index: int) -> int:
        raise KernelError("no device")

    with pytest.raises(KernelError, match="no device"):
        namespace.call(steering.open_steered, fail, "box", INDEX, CPUS)
    assert namespace.call(Path(steering.DEFAULT_MASK).read_text).strip("0,\n") == "1"


def test_a_mask_that_was_not_taken_is_told(namespace, opened, monkeypatch, tmp_path):
    ignoring = tmp_path / "mask"
    ignoring.write_text("00000000,00000000\n")
    monkeypatch.setattr(steering, "DEFAULT_MASK", str(ignoring))
    monkeypatch.setattr(steering, "_DEVICE_MASK", str(ignoring) + "{:.0}")
    monkeypatch.setattr(steering.os, "write", lambda fd, data: len(data))
    unsteered = opened([0]).unsteered
    assert unsteered.endswith("was set to 00000001 but reads 00000000,00000000")


def test_a_kernel_that_does_not_tell_does_not_steer(namespace, opened, monkeypatch, tmp_path):
    told = tmp_path / "softnet_stat"
    told.write_text(("00000000 " * 11).strip() + "\n")
    monkeypatch.setattr(backlog, "_STATE", str(told))
    device = opened(CPUS)
    assert "5.10" in device.unsteered
    assert arrival(namespace, device.fd, CPUS[0]) == CPUS[0]


@pytest.mark.parametrize(
    ("cpus", "text"),
    [
        ([], "00000000"),
        ([0, 1], "00000003"),
        ([33], "00000002,00000000"),
        ([0, 95], "80000000,00000000,00000001"),
    ],
)
def test_masks_are_written_as_the_kernel_reads_them(cpus, text):
    assert steering.mask_text(sum(1 << cpu for cpu in cpus)) == text
