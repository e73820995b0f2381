"""What the lab asks an emulator process, as both sides know it."""

from __future__ import annotations

from testbed.kernel.placement import Placement
from testbed.kernel.processes.control import Descriptor, Message
from testbed.topology.model import DirectionName, Impairments, ScheduledChange


class Steer(Message, frozen=True):
    """Frames are steered to the receivers of this placement: keep to the own processor under
    load, and hand over no more than the receivers have room for."""

    placement: Placement


class AddLink(Message, frozen=True, kw_only=True):
    """Carry frames between two TAP descriptors.

    name: of the link, by which it is asked for later.
    tap_a, tap_b: its ends; `forward` holds from the first to the second.
    seed: with the same seed, name and impairments the same happens to the same frames.
    stamps_a, stamps_b: what `stamp_arrivals` gave for the ends. Without, a frame is taken to have
        come when the emulator reads it.
    log: a file that gets a line for every frame (`testbed.emulator.fate` has the columns). It is
        up to date after `CountLink`, and complete when the emulator has ended.
    """

    name: str
    tap_a: Descriptor
    tap_b: Descriptor
    forward: Impairments
    reverse: Impairments
    seed: int = 0
    stamps_a: Descriptor | None = None
    stamps_b: Descriptor | None = None
    log: Descriptor | None = None


class SetImpairments(Message, frozen=True):
    """Replace the impairments of one direction."""

    name: str
    direction: DirectionName
    impairments: Impairments


class SetCut(Message, frozen=True):
    """Drop every frame that enters the link, or (not `engaged`) no longer; in one direction or
    both."""

    name: str
    direction: DirectionName | None
    engaged: bool


class SetPlug(Message, frozen=True):
    """Put the cable in, or pull it out, so that its ends see it."""

    name: str
    plugged: bool


class SetSchedule(Message, frozen=True):
    """Begin this schedule now, in place of the one before."""

    name: str
    changes: tuple[ScheduledChange, ...]


class Journal(Message, frozen=True):
    """The changes that have happened, as a tuple of `AppliedChange`."""

    name: str


class CountLink(Message, frozen=True):
    """What the link has counted, as `LinkCounters`."""

    name: str


class ReadBack(Message, frozen=True):
    """The impairments in force, forward and reverse."""

    name: str
