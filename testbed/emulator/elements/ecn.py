"""Marking instead of dropping: explicit congestion notification (RFC 3168, section 5)."""

from __future__ import annotations

from testbed.emulator.fate import altered
from testbed.wire.edit import set_traffic_class, traffic_class
from testbed.wire.frame import ip_of_frame
from testbed.wire.ip import CONGESTION_EXPERIENCED, ECN_FIELD


def marked(frame: bytes) -> bytes | None:
    """The frame with congestion experienced set, or None when its transport is not capable."""
    headers = ip_of_frame(frame)
    if headers is None:
        return None
    value = traffic_class(frame, headers.start)
    if not value & ECN_FIELD:
        return None
    if value & ECN_FIELD == CONGESTION_EXPERIENCED:
        return frame
    changed = bytearray(frame)
    set_traffic_class(changed, value | CONGESTION_EXPERIENCED, headers.start)
    return altered(frame, bytes(changed))
