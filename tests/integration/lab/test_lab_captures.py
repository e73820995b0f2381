"""Captures are complete, or an error."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_topologies import boxed, pair

from testbed.errors import CaptureError
from testbed.lab import Lab
from testbed.lab import capture as capturing
from testbed.topology.model import Impairments

NANOSECOND_MAGIC = 0xA1B23C4D
ETHERNET, IP, UDP = 14, 20, 8
PORT = 5000


def lengths(path: Path) -> Iterator[int]:
    """The original length of every packet in a pcap."""
    data = path.read_bytes()
    magic, *_ = struct.unpack_from("=IHHIIII", data)
    assert magic == NANOSECOND_MAGIC
    offset = 24
    while offset < len(data):
        _, _, kept, length = struct.unpack_from("=IIII", data, offset)
        assert kept == length
        yield length
        offset += 16 + kept
    assert offset == len(data)


def transfer(lab: Lab, size: int) -> None:
    """Send that many bytes from a to b."""
    listener = lab["b"].listen()
    client = lab["a"].socket()
    client.connect(listener.getsockname())
    served, _ = listener.accept()
    chunk = bytes(1 << 20)

    def send() -> None:
        for _ in range(size >> 20):
            client.sendall(chunk)
        client.close()

    sender = threading.Thread(target=send)
    sender.start()
    while served.recv(1 << 20):
        pass
    sender.join()


def test_a_capture_under_load_is_complete_and_holds_wire_sized_segments(tmp_path):
    with Lab(pair(captures=["a", "b"]), captures=tmp_path / "new") as lab:
        transfer(lab, 50 << 20)
    for name in ("a", "b"):
        capture = lab.captures[f"{name}:eth0"]
        assert capture.path == tmp_path / "new" / f"{name}-eth0.pcap"
        found = list(lengths(capture.path))
        assert capture.counts is not None
        assert capture.counts.dropped == 0
        assert len(found) == capture.counts.captured
        assert sum(found) > 50 << 20
        assert max(found) == 1500 + ETHERNET


def test_with_offload_segments_are_larger_than_the_wires(tmp_path):
    with Lab(pair(captures=["a"], offload=True), captures=tmp_path) as lab:
        transfer(lab, 64 << 20)  # ends with an error unless all are in it
    assert 1500 + ETHERNET < max(lengths(tmp_path / "a-eth0.pcap")) <= 65535 + ETHERNET


def test_an_emulated_link_carries_wire_sized_segments(tmp_path):
    with Lab(pair(captures=["a"], emulated=True), captures=tmp_path) as lab:
        transfer(lab, 4 << 20)
    assert max(lengths(tmp_path / "a-eth0.pcap")) == 1500 + ETHERNET


def test_without_a_directory_the_capture_is_readable_while_the_lab_lives():
    with Lab(pair(captures=["a"])) as lab:
        lab["a"].ping("b")
        capture = lab.captures["a:eth0"]
        counts = capture.stop()
        assert not capture.running
        assert len(list(lengths(capture.path))) == counts.captured >= 2
        assert capture.stop() == counts
    assert not capture.path.exists()


def test_a_capture_is_stopped_while_traffic_runs():
    settings = Impairments(rate=50e6)
    with Lab(pair(captures=["a"], forward=settings)) as lab:
        listener = lab["b"].listen()
        client = lab["a"].socket()
        client.connect(listener.getsockname())
        served, _ = listener.accept()
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                client.sendall(bytes(10_000))

        def receive() -> None:
            while served.recv(100_000):
                pass

        threads = [threading.Thread(target=one) for one in (send, receive)]
        for thread in threads:
            thread.start()
        counts = lab.captures["a:eth0"].stop()
        assert len(list(lengths(lab.captures["a:eth0"].path))) == counts.captured
        over.set()
        threads[0].join()
        client.close()
        threads[1].join()


def test_what_a_busy_middlebox_has_yet_to_forward_is_captured(tmp_path):
    """It is stopped until the lab has begun to end."""
    with Lab(boxed(captures=["server"]), captures=tmp_path) as lab:
        server, client = (lab[name].socket(kind=socket.SOCK_DGRAM) for name in ("server", "client"))
        server.bind((lab["server"].address, PORT))
        client.sendto(b"first", (lab["server"].address, PORT))
        assert server.recv(100) == b"first"  # addresses are resolved
        (box,) = (process.pid for process, name in lab._runtime._causes if "middlebox" in name)
        os.kill(box, signal.SIGSTOP)
        client.sendto(bytes(700), (lab["server"].address, PORT))
        release = threading.Timer(0.3, os.kill, (box, signal.SIGCONT))
        release.start()
    release.join()
    assert ETHERNET + IP + UDP + 700 in lengths(tmp_path / "server-eth0.pcap")


def test_a_capture_is_completed_even_when_the_block_ends_by_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), Lab(pair(captures=["a"]), captures=tmp_path) as lab:
        for _ in range(5):
            lab["a"].ping("b")
        1 / 0  # noqa: B018
    assert len(list(lengths(tmp_path / "a-eth0.pcap"))) >= 10


def test_dropped_packets_are_an_error(monkeypatch):
    def with_loss(text):
        found = honest(text)
        return found and capturing.CaptureCounts(found.captured, found.received + 3, 3)

    honest = capturing._last_counts
    with pytest.raises(CaptureError, match=r"is not complete: of .* and 3 dropped"):  # noqa: SIM117
        with Lab(pair(captures=["a"])):
            monkeypatch.setattr(capturing, "_last_counts", with_loss)
