"""Traffic for emulation.py and middlebox.py, as processes of their own inside a node.

Results are JSON lines.
"""

from __future__ import annotations

import json
import socket
import sys
import time

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103  # include/uapi/linux/udp.h
BUFFER = 32 << 20


def sink(address: str, port: str, seconds: str) -> None:
    """Take one TCP connection for so long; the rate counts from a quarter of the time on."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    listener.bind((address, int(port)))
    listener.listen()
    connection, _ = listener.accept()
    chunk = bytearray(1 << 18)
    began = time.monotonic()
    marks = [(began, 0)]
    received = 0
    while marks[-1][0] - began < float(seconds) and (size := connection.recv_into(chunk)):
        received += size
        now = time.monotonic()
        if now - marks[-1][0] > 0.05:
            marks.append((now, received))
    steady = next(mark for mark in marks if mark[0] - began > (marks[-1][0] - began) / 4)
    elapsed = marks[-1][0] - steady[0]
    print(json.dumps({"mbit_per_s": 8 * (marks[-1][1] - steady[1]) / elapsed / 1e6}))


def source(address: str, port: str, seconds: str) -> None:
    """Send as much as goes over one TCP connection under cubic."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    connection.connect((address, int(port)))
    chunk = bytes(1 << 18)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        connection.sendall(chunk)


def blast(address: str, port: str, seconds: str, rate: str, size: str, burst: str) -> None:
    """Send `rate` UDP packets of `size` bytes of payload per second, `burst` at a time."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
    sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, int(size))
    sender.connect((address, int(port)))
    at_once = int(burst)
    payload = bytes(int(size) * at_once)
    wanted = float(rate)
    send, clock = sender.send, time.monotonic
    sent = 0
    began = clock()
    end = began + float(seconds)
    while (now := clock()) < end:
        if sent >= (now - began) * wanted:
            time.sleep(0.00005)
        else:
            send(payload)
            sent += at_once
    print(json.dumps({"sent": sent}))


if __name__ == "__main__":
    {"sink": sink, "source": source, "blast": blast}[sys.argv[1]](*sys.argv[2:])
