"""A connection that is split, and what is known of its two ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.middlebox import Flow, Side
from testbed.transport.receiver import Receiver
from testbed.transport.sender import Sender
from testbed.wire.options import HandshakeOptions


class Greeting(NamedTuple):
    """What the SYN of an end has said; first: the number of its first byte."""

    first: int
    window: int
    options: HandshakeOptions


@dataclass(eq=False, slots=True, kw_only=True)
class Half:
    """One end of a connection that is split.

    key: of its packets.
    first: the sequence number of its first byte.
    scale: of the windows that it announces.
    receiver: takes in its data.
    sender: sends it the data of the other end.
    told: how far its window reaches, by what it was told last.
    urgent: the position behind the last urgent byte that it has sent.
    """

    key: bytes
    first: int
    scale: int
    receiver: Receiver
    sender: Sender
    told: int = 0
    urgent: int = 0

    @property
    def finished(self) -> bool:
        """Whether it has ended its side, and knows the end of the other."""
        return self.receiver.finished and self.sender.done


@dataclass(eq=False, slots=True, kw_only=True)
class Split(Flow):
    """One connection.

    opener: the side that it was opened from.
    greetings: of the outside and the inside, as far as they were seen.
    ends: of both sides, once they are split.
    buffer: bytes kept per direction.
    sack: whether both ends have permitted it.
    """

    opener: Side
    buffer: int
    greetings: list[Greeting | None] = field(default_factory=lambda: [None, None])
    ends: tuple[Half, Half] | None = None
    sack: bool = False
