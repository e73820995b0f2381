"""Messages of one shape: encoded once by pyroute2, then filled in anew for each request.

Encoding a message with pyroute2 takes 70 to 300 us and a lab needs some ten messages for every
node, of few shapes. Here pyroute2 encodes each shape with marks in place of what differs from
request to request, and filling in the marks takes 2 us.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from typing import Any

from testbed.errors import KernelError
from testbed.kernel.netlink.socket import encode

# Values that stand for what is to be filled in; none is part of another, nor of a header.
NUMBERS = (0x5EB1A7C3, 0x69D2B8F4, 0x74E3C905, 0x7F04DA16)
MACS = ("ea:3b:91:c7:5d:a2", "ea:4c:82:d8:6e:b3")
NAMES = ("first~interface", "second~intrface")
ADDRESSES: dict[int, tuple[str, str]] = {
    socket.AF_INET: ("203.117.89.173", "203.118.90.174"),
    socket.AF_INET6: (
        "fd9b:7ac5:6be4:81d3:92a7:c35f:e816:4d7b",
        "fd9c:7bc6:6ce5:82d4:93a8:c45f::1",
    ),
}
_NAME_BYTES = 15  # IFNAMSIZ without the final zero (include/uapi/linux/if.h)


def number(value: int) -> bytes:
    """An unsigned 32-bit field."""
    return struct.pack("=I", value)


def mac(address: str) -> bytes:
    """An Ethernet address from aa:bb:cc:dd:ee:ff."""
    return bytes.fromhex(address.replace(":", ""))


def name(interface: str) -> bytes:
    """An interface's name, in a field of the full length.

    Raises `KernelError` for a name that no interface can have.
    """
    encoded = interface.encode()
    if not 0 < len(encoded) <= _NAME_BYTES:
        raise KernelError(
            f"'{interface}' cannot be the name of an interface: it takes 1 to {_NAME_BYTES} bytes."
        )
    return encoded.ljust(_NAME_BYTES, b"\0")


def address(family: int, text: str) -> bytes:
    """An IPv4 or IPv6 address from its text form."""
    return socket.inet_pton(family, text)


class Shape:
    """An encoded message with places to be filled in, in the order in which `marks` are given."""

    def __init__(self, kind: int, flags: int, message: Any, marks: Sequence[bytes]) -> None:
        data = encode(kind, flags, message)
        pattern = b"|".join(re.escape(mark) for mark in marks)
        self._pieces = re.split(b"(" + pattern + b")", data)
        self._places = [
            (place, marks.index(piece))
            for place, piece in enumerate(self._pieces)
            if piece in marks
        ]
        missing = set(range(len(marks))) - {which for _, which in self._places}
        assert not missing, f"marks {missing} are not in the message"

    def fill(self, *values: bytes) -> bytes:
        """The message with `values`, each as long as its mark, in the marks' places."""
        pieces = self._pieces.copy()
        for place, which in self._places:
            pieces[place] = values[which]
        return b"".join(pieces)
