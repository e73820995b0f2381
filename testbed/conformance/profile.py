"""Which RFCs a TCP is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from testbed.errors import ConformanceError
from testbed.wording import suggestion


class Profile(msgspec.Struct, frozen=True):
    """The figures that have changed between RFCs; times in seconds.

    initial_window: bytes that may be sent before the first acknowledgment of data, by the MSS.
    initial_rto: the retransmission time-out before any round trip was measured.
    keepalive_idle: the least time without traffic before a first probe.
    The sources are for sentences.
    """

    name: str
    initial_window: Callable[[int], int]
    initial_window_source: str
    initial_rto: float
    initial_rto_source: str


def _ten_segments(mss: int) -> int:
    """RFC 6928 section 2."""
    return min(10 * mss, max(2 * mss, 14600))


RFC2525: Final = Profile(
    name="rfc2525",
    initial_window=lambda mss: mss,
    initial_window_source="RFC 2001, section 1",
    initial_rto=3.0,
    initial_rto_source="RFC 1122, section 4.2.3.1",
)
MODERN: Final = Profile(
    name="modern",
    initial_window=_ten_segments,
    initial_window_source="RFC 6928, section 2",
    initial_rto=1.0,
    initial_rto_source="RFC 6298, section 2.1",
)
PROFILES: Final[Mapping[str, Profile]] = {one.name: one for one in (MODERN, RFC2525)}


def profile_of(name: str) -> Profile:
    """The profile of a name. Raises ConformanceError where there is none."""
    if name not in PROFILES:
        raise ConformanceError(
            f"There is no profile '{name}'; known are {', '.join(PROFILES)}"
            f"{suggestion(name, PROFILES)}"
        )
    return PROFILES[name]
