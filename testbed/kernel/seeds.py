"""Numbers that follow from one seed, each for a purpose of its own."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from testbed.errors import KernelError

#: The environment variable that hands `--seed` to the process that builds labs.
SEED_VARIABLE: Final = "TESTBED_SEED"


def derived(seed: int, *purpose: str | int) -> int:
    """A number from 0 to 2^53 - 1, the same for the same seed and purpose wherever it is asked."""
    words = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 11


def seed_of_links(own: int) -> int:
    """The seed of a topology's links: `own`, mixed with the seed of `--seed` where one is given.

    own: the `seed` of the topology. Raises `KernelError` where `TESTBED_SEED` is no whole number.
    """
    given = os.environ.get(SEED_VARIABLE)
    if given is None:
        return own
    if not (given.isascii() and given.isdecimal()):
        raise KernelError(f"{SEED_VARIABLE} is '{given}'; it must be a whole number from 0 on.")
    return derived(int(given), "links", own)
