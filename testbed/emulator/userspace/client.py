"""The lab's side of the userspace emulator."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.emulator.counters import AppliedChange, LinkCounters
from testbed.emulator.limits import refuse_impossible
from testbed.emulator.userspace import messages
from testbed.emulator.userspace.overflow import Overflows
from testbed.errors import LabError
from testbed.kernel.placement import Placement
from testbed.kernel.processes.control import ControlChannel
from testbed.topology.model import DirectionName, Impairments, ScheduledChange


class UserspaceEmulator:
    """Speaks over `channel` with an emulator process.

    The process is `python -m testbed.emulator.userspace --control FD`.

    Every method raises `LabError` when the emulator refuses (an unknown link, an impossible
    value) and `ProcessDied` when it is gone. See `testbed.emulator.emulator.Emulator`.
    """

    name = "userspace"

    def __init__(self, channel: ControlChannel, overflows: Overflows | None = None) -> None:
        """overflows: what the interfaces of links dropped, where that can be known."""
        self._channel = channel
        self._overflows = overflows
        #: What error messages call the process.
        self.process = channel.name

    def steer(self, placement: Placement) -> None:
        """Tell it which processors take in what it hands over."""
        self._channel.request(messages.Steer(placement))

    def add_link(self, link: messages.AddLink) -> None:
        """Have a link carried. The emulator gets descriptors of its own: the caller may close
        those in the message afterwards, and should."""
        _refuse_impossible(link.forward, link.reverse)
        self._channel.request(link)

    def set(self, name: str, direction: DirectionName, impairments: Impairments) -> None:
        _refuse_impossible(impairments)
        self._channel.request(messages.SetImpairments(name, direction, impairments))

    def cut(self, name: str, direction: DirectionName | None = None) -> None:
        self._channel.request(messages.SetCut(name, direction, engaged=True))

    def restore(self, name: str, direction: DirectionName | None = None) -> None:
        self._channel.request(messages.SetCut(name, direction, engaged=False))

    def plug(self, name: str, plugged: bool) -> None:
        self._channel.request(messages.SetPlug(name, plugged))

    def schedule(self, name: str, changes: Sequence[ScheduledChange]) -> None:
        self._channel.request(messages.SetSchedule(name, tuple(changes)))

    def journal(self, name: str) -> tuple[AppliedChange, ...]:
        return self._channel.request(messages.Journal(name), tuple[AppliedChange, ...])

    def counters(self, name: str) -> LinkCounters:
        counted = self._channel.request(messages.CountLink(name), LinkCounters)
        return counted if self._overflows is None else self._overflows.added_to(name, counted)

    def read_back(self, name: str) -> tuple[Impairments, Impairments]:
        """The impairments in force, forward and reverse; delays in whole nanoseconds."""
        return self._channel.request(messages.ReadBack(name), tuple[Impairments, Impairments])


def _refuse_impossible(*directions: Impairments) -> None:
    # Checked here, too: JSON has no word for infinity, nor for what is not a number.
    for impairments in directions:
        try:
            refuse_impossible(impairments)
        except ValueError as error:
            raise LabError(f"impairments of a link: {error}") from None
