"""What a middlebox function is: the interface between one function and the box it works in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from testbed.middlebox.timers import Timer
from testbed.wire.packet import Packet, Side


class Verdict:
    """What becomes of the packet that a function was shown.

    `PASS`: it goes on, as it now stands in its buffer. `HOLD`: the function has kept a copy and
    will `release` or `abandon` it. `ABSORB`: it was meant for the function, which has taken it
    in. `drop(cause)`: it is thrown away and counted under that cause.
    """

    __slots__ = ("cause", "name")

    def __init__(self, name: str, cause: str = "") -> None:
        self.name = name
        self.cause = cause

    def __repr__(self) -> str:
        return f"drop({self.cause!r})" if self.cause else self.name


PASS = Verdict("PASS")
HOLD = Verdict("HOLD")
ABSORB = Verdict("ABSORB")


def drop(cause: str) -> Verdict:
    """The verdict that throws a packet away; make it once and keep it."""
    return Verdict("DROP", cause)


class Box(Protocol):
    """The middlebox as one of its functions sees it.

    Packets that a function sends go on from that function towards the side named, through the
    functions that lie that way and not through the function itself. They leave after the packet
    that is being looked at has been judged and before it travels on.

    addresses: the node's own on each side, as text. log_directory: a descriptor of where logs go,
    None where they are kept in memory.
    """

    mtu: int
    addresses: Mapping[Side, Sequence[str]]
    log_directory: int | None

    def now(self) -> float:
        """Seconds of a clock that never steps."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay` seconds from now."""

    def emit(self, data: bytearray, toward: Side) -> None:
        """Send a packet that the function has made."""

    def release(self, data: bytearray, toward: Side) -> None:
        """Send a packet on that the function has held."""

    def abandon(self, count: int, cause: str) -> None:
        """Count held packets as dropped: they will never be released."""


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No options."""


class Function:
    """Base of all functions. A subclass gets its name from the decorator `function`.

    Options: what can be set, a frozen struct; every field has a default and a docstring line.
    protocols: the transport protocols it wants to see, None for every packet (fragments and
    packets with an unusable transport header included). drains: whether it goes on seeing packets
    while it is disabled, because connections that it has begun depend on it; such a function
    looks at `enabled` before it begins anything new. claims_own_addresses: whether it also wants
    what comes to the node's own addresses on its outside, which otherwise goes past the box.
    keeps_log: whether it writes to `log_directory`.
    """

    name: ClassVar[str]
    protocols: ClassVar[frozenset[int] | None] = None
    drains: ClassVar[bool] = False
    claims_own_addresses: ClassVar[bool] = False
    keeps_log: ClassVar[bool] = False
    Options: ClassVar[type[msgspec.Struct]] = NoOptions

    def __init__(self, box: Box, options: Any) -> None:
        self.box = box
        self.options = options
        self.enabled = True
        self.counters: Counter[str] = Counter()

    def packet(self, packet: Packet) -> Verdict:
        """Judge one packet; it may be changed in place. `packet.side` is where it came from."""
        raise NotImplementedError

    def reconfigure(self, options: Any) -> None:
        """Other options hold from now on."""
        self.options = options

    def note(self, flag: str, text: str, important: bool = False) -> None:
        """Be told what happens to the box as a whole; `flag` is one of the function `trace-log`."""

    def log_lines(self, last: int) -> list[str] | None:
        """The newest lines that it has logged, the newest last; None where it keeps no log."""
        return None

    def gauges(self) -> dict[str, int]:
        """Numbers that go up and down, such as table sizes, reported beside the counters."""
        return {}
