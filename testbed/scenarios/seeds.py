"""Numbers that follow from one seed, each for a purpose of its own."""

from __future__ import annotations

import hashlib


def derived(seed: int, *purpose: str | int) -> int:
    """A number from 0 to 2^53 - 1, the same for the same seed and purpose wherever it is asked."""
    words = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 11
