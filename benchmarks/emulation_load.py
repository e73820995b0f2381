"""Traffic for emulation*.py and middlebox.py, as processes of their own.

They need nothing but Python, and no privileges at the end that calls. Those that receive, and
those that send packets, print one JSON object at their end. A program whose name ends in `-fds`
gets connected sockets from its parent, several at once, instead of an address and a port.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import resource
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import time

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103  # include/uapi/linux/udp.h
BUFFER = 32 << 20
MEASURED_FROM = 0.25  # of the time that a stream takes
INTERVAL = 0.02  # s, between the moments at which it is noted how much has arrived


def sink(address: str, port: str, seconds: str) -> None:
    """Take one TCP connection for so long; the rate counts from a quarter of the time on."""
    listener = listening(address, port)
    enlarge(listener, SO_RCVBUFFORCE, socket.SO_RCVBUF)
    connection, _ = listener.accept()
    collect([connection], float(seconds))


def source(address: str, port: str, seconds: str) -> None:
    """Send as much as goes over one TCP connection under cubic."""
    connection = socket.socket()
    prepare_to_send(connection)
    connection.connect((address, int(port)))
    supply([connection], float(seconds))


def give(address: str, port: str, seconds: str) -> None:
    """`source`, but waiting to be called."""
    listener = listening(address, port)
    prepare_to_send(listener)
    connection, _ = listener.accept()
    supply([connection], float(seconds))


def take(address: str, port: str, seconds: str) -> None:
    """`sink`, but calling, and with a buffer that grows as the kernel sees fit."""
    collect([socket.create_connection((address, int(port)))], float(seconds))


def listening(address: str, port: str) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(port)))
    listener.listen()
    return listener


def prepare_to_send(sock: socket.socket) -> None:
    enlarge(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")


def enlarge(sock: socket.socket, force: int, ask: int) -> None:
    """As much buffer as wanted for root, as much as there may be for others."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, ask, BUFFER)


def inherited(numbers: str) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",")]


def watching(connections: list[socket.socket], events: int) -> selectors.DefaultSelector:
    selector = selectors.DefaultSelector()
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, events, connection)
    return selector


def supply(connections: list[socket.socket], seconds: float) -> None:
    """Send as much as goes over connections for so long, or until the other end has gone."""
    chunk = bytes(1 << 18)
    selector = watching(connections, selectors.EVENT_WRITE)
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.send(chunk)


def collect(connections: list[socket.socket], seconds: float) -> None:
    """Receive for so long, and tell what came from a quarter of the time on."""
    buffer = bytearray(1 << 18)
    flows = {connection: Flow() for connection in connections}
    selector = watching(connections, selectors.EVENT_READ)
    began = time.monotonic()
    steady, end = began + MEASURED_FROM * seconds, began + seconds
    while (now := time.monotonic()) < end and selector.get_map():
        for key, _ in selector.select(end - now):
            size = key.data.recv_into(buffer)
            if not size:
                selector.unregister(key.data)
            flows[key.data].received(size, steady)
    rates = [flow.rate() for flow in flows.values()]
    print(json.dumps({"mbit_per_s": rates[0], "each": rates, "cpu": time.process_time()}))


class Flow:
    """What has arrived of a stream, from a moment on."""

    def __init__(self) -> None:
        self.size = 0
        self.marks: list[tuple[float, int]] = []

    def received(self, size: int, steady: float) -> None:
        self.size += size
        now = time.monotonic()
        if now >= steady and (not self.marks or now - self.marks[-1][0] >= INTERVAL):
            self.marks.append((now, self.size))

    def rate(self) -> float:
        """Mbit/s: the median of the rates over every half of the time; 0 if there are none.

        What waits for a retransmission arrives all at once with it, so that the rate from one
        certain moment to another depends on whether something waits in one of them.
        """
        if len(self.marks) < 2:
            return 0.0
        half = (self.marks[-1][0] - self.marks[0][0]) / 2
        times = [moment for moment, _ in self.marks]
        rates = []
        for moment, size in self.marks:
            later = bisect.bisect_left(times, moment + half)
            if later < len(times):
                end, total = self.marks[later]
                rates.append(8 * (total - size) / (end - moment) / 1e6)
        return statistics.median(rates)


def blast(address: str, port: str, seconds: str, rate: str, size: str, burst: str) -> None:
    """Send `rate` UDP packets of `size` bytes of payload per second, `burst` at a time."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    enlarge(sender, SO_SNDBUFFORCE, socket.SO_SNDBUF)
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
    print(json.dumps({"sent": sent, "cpu": time.process_time()}))


def pace(address: str, port: str, count: str, interval: str, size: str) -> None:
    """Send `count` UDP packets of `size` bytes, `interval` seconds apart."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, int(port)))
    send_spaced([sender], int(count), float(interval), int(size))


def send_spaced(senders: list[socket.socket], count: int, interval: float, size: int) -> None:
    """`count` packets over each of the senders in turn, one every `interval` seconds.

    Each carries the time just before it was sent, ns of the real-time clock. What the machine
    has held up is caught up with.
    """
    padding = bytes(size - 8)
    began = time.monotonic()
    for number in range(count):
        for place, sender in enumerate(senders):
            due = began + (number * len(senders) + place) * interval
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            sender.send(struct.pack("q", time.time_ns()) + padding)
    print(json.dumps({"sent": count * len(senders), "cpu": time.process_time()}))


def around(*argv: str) -> None:
    """Run a program that prints JSON; tell that, and the processor time of all it has started."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = json.loads(done.stdout)
    print(json.dumps({"output": output, "cpu": used.ru_utime + used.ru_stime}))


def main(program: str, *words: str) -> None:
    if program in ("take", "blast", "pace") and words[0].startswith("$"):
        # Where only a process at this end is told what the address of the other one is.
        words = (os.environ[words[0][1:]], *words[1:])
    if program == "supply-fds":
        supply(inherited(words[0]), float(words[1]))
    elif program == "collect-fds":
        collect(inherited(words[0]), float(words[1]))
    elif program == "pace-fds":
        send_spaced(inherited(words[0]), int(words[1]), float(words[2]), int(words[3]))
    else:
        programs = (sink, source, give, take, blast, pace, around)
        {each.__name__: each for each in programs}[program](*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
