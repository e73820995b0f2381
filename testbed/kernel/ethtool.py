"""Switching a network interface's offloads off, so that a capture shows what a wire would carry.

Source: include/uapi/linux/ethtool.h.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct

from testbed.errors import KernelError, ReadBackError

_SIOCETHTOOL = 0x8946
# name: (command that reads, command that sets)
_OFFLOADS = {
    "rx-checksum": (0x14, 0x15),
    "tx-checksum": (0x16, 0x17),
    "tso": (0x1E, 0x1F),
    "gso": (0x23, 0x24),
    "gro": (0x2B, 0x2C),
}


def _ethtool(sock: socket.socket, interface: str, command: int, value: int = 0) -> int:
    data = array.array("I", [command, value])
    address, _ = data.buffer_info()
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), address))
    return data[1]


def disable_offloads(interface: str) -> None:
    """Switch TSO, GSO, GRO and checksum offload off in the calling thread's namespace.

    Each is read back. Raises `KernelError` when one cannot be switched off.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name, (read, write) in _OFFLOADS.items():
            try:
                _ethtool(sock, interface, write)
                left = _ethtool(sock, interface, read)
            except OSError as error:
                raise KernelError(
                    f"The offload {name} of {interface} cannot be switched off: "
                    f"{os.strerror(error.errno or 0)}."
                ) from None
            if left:
                raise ReadBackError(f"The offload {name} of {interface} is still on.")
