"""One ICMP echo from inside a node, without a program (RFC 792, RFC 4443)."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time

from testbed.errors import LabError
from testbed.kernel.processes.process import await_readable, deadline_in, time_left

_sequence = itertools.count(1)
_ECHO_V4, _REPLY_V4, _UNREACHABLE_V4 = 8, 0, 3
_ECHO_V6, _REPLY_V6, _UNREACHABLE_V6 = 128, 129, 1


def open_socket(address: str) -> socket.socket:
    """A raw ICMP socket of the address's family, in the calling thread's namespace."""
    if ":" in address:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setblocking(False)
    return sock


def ping(sock: socket.socket, address: str, timeout: float) -> float:
    """Send one echo request and return the round-trip time in seconds.

    Raises `LabError` when no reply comes within `timeout` seconds.
    """
    v6 = sock.family == socket.AF_INET6
    identifier = struct.pack("!HH", os.getpid() & 0xFFFF, next(_sequence) & 0xFFFF)
    body = identifier + b"testbed ping"
    kind = _ECHO_V6 if v6 else _ECHO_V4
    checksum = 0 if v6 else _checksum(struct.pack("!BBH", kind, 0, 0) + body)
    deadline = deadline_in(timeout)
    sent = time.monotonic()
    try:
        sock.sendto(struct.pack("!BBH", kind, 0, checksum) + body, (address, 0))
    except OSError as error:
        raise LabError(f"No ping to {address}: {os.strerror(error.errno or 0)}.") from None
    while True:
        if not await_readable(sock.fileno(), time_left(deadline)):
            raise LabError(f"No reply to a ping to {address} within {timeout:g} s.")
        packet, (source, *_) = sock.recvfrom(65536)
        message = packet if v6 else packet[(packet[0] & 15) * 4 :]
        if message[:1] == bytes([_REPLY_V6 if v6 else _REPLY_V4]) and message[4:8] == identifier:
            return time.monotonic() - sent
        if (
            message[:1] == bytes([_UNREACHABLE_V6 if v6 else _UNREACHABLE_V4])
            and identifier in message
        ):
            raise LabError(f"No ping to {address}: {source} says that it is unreachable.")


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
