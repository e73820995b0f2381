"""Pcap files with time stamps in nanoseconds, piece by piece.

Source: draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import struct
from typing import Final

_MAGIC: Final = 0xA1B23C4D
_SNAP_LENGTH: Final = 1 << 18
_SECOND: Final = 1_000_000_000
_header = struct.Struct("<IHHiIII").pack
_record_header = struct.Struct("<IIII").pack


def pcap_header(link_type: int) -> bytes:
    """How a file of frames of this link type begins."""
    return _header(_MAGIC, 2, 4, 0, 0, _SNAP_LENGTH, link_type)


def pcap_record(time: int, captured: bytes, length: int) -> bytes:
    """One frame: its time in ns since the epoch, its captured bytes, its length on the wire."""
    return _record_header(*divmod(time, _SECOND), len(captured), length) + captured
