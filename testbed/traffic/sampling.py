"""A stream of data for a while, with TCP_INFO read off the sender all the time."""

from __future__ import annotations

import select
import socket
import statistics
import struct
import time

import msgspec

from testbed.errors import LabError
from testbed.kernel.netlink.rtnetlink import family_of
from testbed.kernel.tcp_info import TcpInfo, congestion_control, tcp_info
from testbed.lab import LabNode
from testbed.traffic.service import Service, patience

_CHUNK = bytes(1 << 16)
_READ = 1 << 18
_MOST_UNSENT = 1 << 17
_TCP_NOTSENT_LOWAT = 25  # include/uapi/linux/tcp.h
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Sample(msgspec.Struct, frozen=True):
    """The sender's TCP_INFO at a moment, ns of the real-time clock, the one of captures."""

    time_ns: int
    info: TcpInfo


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that was sent for `seconds`; acknowledged: bytes that arrived in them for sure."""

    seconds: float
    acknowledged: int
    congestion_control: str
    samples: tuple[Sample, ...]

    @property
    def goodput(self) -> float:
        """Bits per second."""
        return self.acknowledged * 8 / self.seconds

    def round_trip(self, quantile: float = 0.5, last: float = 1.0) -> float:
        """A quantile of the smoothed round-trip times in the `last` part of the stream, seconds.

        Each sample that has one counts once. Raises `LabError` where there is none.
        """
        begin = self.samples[0].time_ns + (1 - last) * self.seconds * 1e9
        found = sorted(
            one.info.rtt_us / 1e6
            for one in self.samples
            if one.time_ns >= begin and one.info.bytes_acked > 1
        )
        if not found:
            raise LabError("Nothing was acknowledged in that part of the stream.")
        if quantile == 0.5:
            return statistics.median(found)
        return found[min(int(quantile * len(found)), len(found) - 1)]


def stream(sender: LabNode, receiver: LabNode, seconds: float, *, interval: float = 0.02) -> Stream:
    """Send as fast as TCP lets us for so long, sampling every `interval` seconds; then reset.

    Raises `LabError` when the connection cannot be made, or breaks.
    """

    def swallow(sock: socket.socket) -> None:
        with patience(sock, seconds + 60):
            _swallow(sock)

    with (
        Service(receiver, swallow) as service,
        sender.socket(family_of(service.address)) as sock,
    ):
        try:
            sock.settimeout(30)
            sock.connect((service.address, service.port))
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _MOST_UNSENT)
            began = time.monotonic()
            samples = _send(sock, began, seconds, interval)
            lasted = time.monotonic() - began
            last = tcp_info(sock)
            algorithm = congestion_control(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError as error:
            sender.check()
            raise LabError(
                f"The stream from '{sender.name}' to '{receiver.name}' broke: {error}."
            ) from error
    return Stream(
        seconds=lasted,
        acknowledged=max(last.bytes_acked - 1, 0),  # the SYN counts as a byte
        congestion_control=algorithm,
        samples=(*samples, Sample(time.time_ns(), last)),
    )


def _send(sock: socket.socket, began: float, seconds: float, interval: float) -> list[Sample]:
    samples = [Sample(time.time_ns(), tcp_info(sock))]
    end, due = began + seconds, began + interval
    while (now := time.monotonic()) < end:
        if now >= due:
            samples.append(Sample(time.time_ns(), tcp_info(sock)))
            due = now + interval
        _, writable, _ = select.select([], [sock], [], max(0.0, min(due, end) - now))
        if writable:
            sock.send(_CHUNK)
    return samples


def _swallow(sock: socket.socket) -> None:
    # Nothing is copied (tcp(7), MSG_TRUNC), and nobody but the kernel is woken for each segment.
    unused = bytearray(_READ)
    try:
        while sock.recv_into(unused, flags=socket.MSG_TRUNC | socket.MSG_WAITALL):
            pass
    except ConnectionResetError:
        pass  # how the sender ends it
