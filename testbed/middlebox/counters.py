"""What a middlebox counts, as data."""

from __future__ import annotations

import msgspec


class SideCounters(msgspec.Struct, frozen=True):
    """Packets and bytes of one side in one direction; bytes of whole IP packets."""

    packets: int
    bytes: int


class BoxCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What became of every packet.

    received, sent: by side, `outside` and `inside`. created: packets that functions made.
    absorbed: packets that were meant for a function, which has answered or used them up. held:
    packets that functions hold now. dropped: by cause.
    """

    received: dict[str, SideCounters]
    sent: dict[str, SideCounters]
    created: int
    absorbed: int
    held: int
    dropped: dict[str, int]

    @property
    def missing(self) -> int:
        """Packets that are unaccounted for: 0, or the box has a bug."""
        came = sum(side.packets for side in self.received.values()) + self.created
        went = sum(side.packets for side in self.sent.values()) + sum(self.dropped.values())
        return came - went - self.absorbed - self.held


class FunctionState(msgspec.Struct, frozen=True, kw_only=True):
    """A function as it is now: the options in force and what it has counted."""

    name: str
    enabled: bool
    options: dict[str, object]
    counters: dict[str, int]
