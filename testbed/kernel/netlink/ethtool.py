"""Switching a network interface's offloads off, so that a capture shows what a wire would carry.

Source: include/uapi/linux/ethtool.h.
"""

from __future__ import annotations

import array
import os
import struct

from testbed.errors import KernelError, ReadBackError
from testbed.kernel.netlink.socket import Netlink

_SIOCETHTOOL = 0x8946
_ETHTOOL_GSTRINGS, _ETHTOOL_GSSET_INFO = 0x1B, 0x37
_ETHTOOL_GFEATURES, _ETHTOOL_SFEATURES = 0x3A, 0x3B
_ETH_SS_FEATURES = 4
_NAME_BYTES = 32
# Kernel's names (net/ethtool/common.c) of what makes a segment differ from the frames of a wire.
_OFFLOADS = ("rx-checksum", "tx-checksum-", "tx-tcp-", "tx-generic-segmentation", "rx-gro")


class Offloads:
    """The offloads of this kernel by their numbers, which differ from kernel to kernel.

    Any interface can be asked for them: they are the same for all.
    """

    def __init__(self, netlink: Netlink, interface: str = "lo") -> None:
        count = _ask(netlink, interface, struct.pack("=IIQI", _ETHTOOL_GSSET_INFO, 0, 1 << 4, 0))
        (length,) = struct.unpack_from("=I", count, 16)
        size = struct.calcsize("=III") + length * _NAME_BYTES
        request = struct.pack("=III", _ETHTOOL_GSTRINGS, _ETH_SS_FEATURES, length)
        found = _ask(netlink, interface, request.ljust(size, b"\0"))[12:]
        names = [
            found[start : start + _NAME_BYTES].split(b"\0")[0].decode()
            for start in range(0, len(found), _NAME_BYTES)
        ]
        self._names = names
        self._blocks = (length + 31) // 32
        self._mask = sum(1 << bit for bit, name in enumerate(names) if name.startswith(_OFFLOADS))
        asked = b"".join(struct.pack("=II", block, 0) for block in self._split(self._mask))
        self._off = struct.pack("=II", _ETHTOOL_SFEATURES, self._blocks) + asked
        self._question = struct.pack("=II", _ETHTOOL_GFEATURES, self._blocks).ljust(
            8 + 16 * self._blocks, b"\0"
        )

    def _split(self, bits: int) -> list[int]:
        return [bits >> (32 * block) & 0xFFFFFFFF for block in range(self._blocks)]

    def active(self, netlink: Netlink, interface: str) -> set[str]:
        """The offloads (segmentation, aggregation, checksums) that an interface has switched on."""
        answer = _ask(netlink, interface, self._question)
        blocks = struct.iter_unpack("=IIII", answer[8:])
        bits = sum(active << (32 * place) for place, (_, _, active, _) in enumerate(blocks))
        bits &= self._mask
        return {name for bit, name in enumerate(self._names) if bits >> bit & 1}

    def disable(self, netlink: Netlink, interface: str) -> None:
        """Switch TSO, GSO, GRO and checksum offload off, and read them back.

        Raises `KernelError` when the kernel refuses, `ReadBackError` when one stays on.
        """
        _ask(netlink, interface, self._off)
        left = self.active(netlink, interface)
        if left:
            raise ReadBackError(f"The offloads {', '.join(sorted(left))} of {interface} stay on.")


def _ask(netlink: Netlink, interface: str, command: bytes) -> bytes:
    """Carry out an ethtool command, in the namespace of the socket; what the kernel wrote to it."""
    data = array.array("B", command)
    address, _ = data.buffer_info()
    try:
        netlink.ioctl(_SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), address))
    except OSError as error:
        raise KernelError(
            f"The offloads of {interface} cannot be read or set: {os.strerror(error.errno or 0)}."
        ) from None
    return data.tobytes()
