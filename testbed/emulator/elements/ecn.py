"""Marking instead of dropping: explicit congestion notification (RFC 3168, section 5)."""

from __future__ import annotations

from testbed.emulator.fate import altered
from testbed.wire.frame import Headers

_NOT_CAPABLE = 0
_CONGESTION_EXPERIENCED = 3


def marked(frame: bytes) -> bytes | None:
    """The frame with congestion experienced set, or None when its transport is not capable."""
    headers = Headers.of(frame)
    if headers is None:
        return None
    network = headers.network
    if headers.version == 4:
        found = frame[network + 1] & 3
    else:
        found = frame[network + 1] >> 4 & 3
    if found == _NOT_CAPABLE:
        return None
    if found == _CONGESTION_EXPERIENCED:
        return frame
    changed = bytearray(frame)
    if headers.version == 4:
        changed[network + 1] |= _CONGESTION_EXPERIENCED
        checksum = int.from_bytes(frame[network + 10 : network + 12], "big")
        updated = _update(checksum, frame[network + 1], changed[network + 1])
        changed[network + 10 : network + 12] = updated.to_bytes(2, "big")
    else:
        changed[network + 1] |= _CONGESTION_EXPERIENCED << 4
    return altered(frame, bytes(changed))


def _update(checksum: int, old: int, new: int) -> int:
    """An Internet checksum after one word changed (RFC 1624, equation 3)."""
    total = (~checksum & 0xFFFF) + (~old & 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
