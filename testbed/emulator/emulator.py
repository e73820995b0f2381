"""What the two emulators have in common: all that a link of a running lab asks of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from testbed.emulator.counters import AppliedChange, LinkCounters
from testbed.topology.model import DirectionName, Impairments, ScheduledChange


class Emulator(Protocol):
    """Links are known by name; every method raises `LabError` for one that is not there."""

    @property
    def name(self) -> str:
        """As topologies call it: `userspace` or `netem`."""

    def set(self, name: str, direction: DirectionName, impairments: Impairments) -> None:
        """Replace the impairments of one direction; those that stay the same go on undisturbed.

        Packets that are under way arrive when they would have. Raises `LabError` for what this
        emulator cannot do.
        """

    def cut(self, name: str, direction: DirectionName | None = None) -> None:
        """Drop every frame that enters the link from now on, in one direction or both."""

    def restore(self, name: str, direction: DirectionName | None = None) -> None:
        """End a cut, in one direction or both."""

    def plug(self, name: str, plugged: bool) -> None:
        """Put the cable in, or pull it out: its ends see that, and what is under way is lost."""

    def schedule(self, name: str, changes: Sequence[ScheduledChange]) -> None:
        """Begin a schedule now; it takes the place of the one before, if there was one."""

    def journal(self, name: str) -> tuple[AppliedChange, ...]:
        """The changes of the link's schedule that have happened up to now."""

    def counters(self, name: str) -> LinkCounters:
        """What the link has counted up to now."""

    def read_back(self, name: str) -> tuple[Impairments, Impairments]:
        """The impairments in force, forward and reverse."""
