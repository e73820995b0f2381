"""One ICMP echo from inside a node, without a program (RFC 792, RFC 4443)."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time

from testbed.errors import LabError
from testbed.kernel.processes.process import await_readable, deadline_in, time_left
from testbed.wire.checksum import internet_checksum
from testbed.wire.icmp import ECHO_TYPES
from testbed.wire.ip import ICMP, ICMPV6

# One for each call: what answers to one node, and a NAT between two, must not mix them up.
_identifiers = itertools.count(os.getpid())
_UNREACHABLE = {ICMP: 3, ICMPV6: 1}


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
    protocol = ICMPV6 if v6 else ICMP
    request, reply = ECHO_TYPES[protocol]
    identifier = struct.pack("!HH", next(_identifiers) & 0xFFFF, 1)
    message = struct.pack("!BBH", request, 0, 0) + identifier + b"testbed ping"
    if not v6:  # of ICMPv6 the kernel computes it (RFC 3542 section 3.1)
        message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
    deadline = deadline_in(timeout)
    sent = time.monotonic()
    try:
        sock.sendto(message, (address, 0))
    except OSError as error:
        raise LabError(f"No ping to {address}: {os.strerror(error.errno or 0)}.") from None
    while True:
        if not await_readable(sock.fileno(), time_left(deadline)):
            raise LabError(f"No reply to a ping to {address} within {timeout:g} s.")
        packet, (source, *_) = sock.recvfrom(65536)
        heard = packet if v6 else packet[(packet[0] & 15) * 4 :]
        if heard[:1] == bytes([reply]) and heard[4:8] == identifier:
            return time.monotonic() - sent
        if heard[:1] == bytes([_UNREACHABLE[protocol]]) and identifier in heard:
            raise LabError(f"No ping to {address}: {source} says that it is unreachable.")
