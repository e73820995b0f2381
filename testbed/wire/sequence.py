"""Arithmetic of TCP sequence numbers, which are counted modulo 2**32 (RFC 9293 section 3.4)."""

from __future__ import annotations

from typing import Final

MODULUS: Final = 1 << 32
MASK: Final = MODULUS - 1
"""`n & MASK` is `n % MODULUS` without a division."""
_HALF: Final = MODULUS // 2


def difference(a: int, b: int) -> int:
    """a - b as a signed distance in [-2**31, 2**31)."""
    return ((a - b + _HALF) & MASK) - _HALF


def is_after(a: int, b: int) -> bool:
    """Whether `a` lies beyond `b`."""
    return 0 < (a - b) % MODULUS < _HALF
