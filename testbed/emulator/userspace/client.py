"""The lab's side of the userspace emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from testbed.emulator.counters import AppliedChange, LinkCounters
from testbed.emulator.limits import refuse_impossible
from testbed.emulator.userspace.link import DirectionName
from testbed.errors import LabError
from testbed.kernel.processes.control import ControlChannel
from testbed.topology.model import Impairments, ScheduledChange


class UserspaceEmulator:
    """Speaks over `channel` with an emulator process.

    The process is `python -m testbed.emulator.userspace --control FD`.

    Every method raises `LabError` when the emulator refuses (an unknown link, an impossible
    value) and `ProcessDied` when it is gone.
    """

    name = "userspace"

    def __init__(self, channel: ControlChannel) -> None:
        self._channel = channel
        #: What error messages call the process.
        self.process = channel.name

    def ready(self) -> None:
        """Return when the emulator is up."""
        self._channel.request("ready")

    def steer(self, own: int, receivers: Sequence[int]) -> None:
        """Tell it that the processors `receivers` take in what it hands over (see
        `testbed.kernel.devices.steering`): it keeps to another one, `own`, under load, and does not
        hand over more than they have room for."""
        self._channel.request("steer", own=own, receivers=receivers)

    def add_link(
        self,
        name: str,
        fd_a: int,
        fd_b: int,
        forward: Impairments,
        reverse: Impairments,
        seed: int = 0,
        log_fd: int | None = None,
        stamps: tuple[int, int] | None = None,
    ) -> None:
        """Carry frames between two TAP descriptors; `forward` holds from `fd_a` to `fd_b`.

        The emulator gets descriptors of its own: the caller may close these afterwards, and
        should. log_fd: a file that is to get a line for every frame (`testbed.emulator.fate` has
        the columns); it is complete when the emulator has ended, and up to date after `counters`.
        stamps: what `stamp_arrivals` gave for `fd_a` and `fd_b`; without it, a frame is taken to
        have come when the emulator reads it. The same seed, name and impairments do the same to
        the same sequence of frames.
        """
        self._channel.request(
            "add_link",
            fds=(fd_a, fd_b, *(stamps or ()), *(() if log_fd is None else (log_fd,))),
            name=name,
            forward=_arguments(forward),
            reverse=_arguments(reverse),
            seed=seed,
            stamped=stamps is not None,
            logged=log_fd is not None,
        )

    def set(self, name: str, direction: DirectionName, impairments: Impairments) -> None:
        """Replace the impairments of one direction; those that stay the same go on undisturbed.

        Frames that are under way arrive when they would have.
        """
        self._channel.request(
            "set", name=name, direction=direction, impairments=_arguments(impairments)
        )

    def cut(self, name: str, direction: DirectionName | None = None) -> None:
        """Drop every frame that enters the link from now on, in one direction or both."""
        self._channel.request("cut", name=name, direction=direction)

    def restore(self, name: str, direction: DirectionName | None = None) -> None:
        """End a cut, in one direction or both."""
        self._channel.request("restore", name=name, direction=direction)

    def schedule(self, name: str, changes: Sequence[ScheduledChange]) -> None:
        """Begin a schedule now; it takes the place of the one before, if there was one.

        All of it is checked now: `LabError` when a change would come to something impossible.
        """
        self._channel.request("schedule", name=name, changes=msgspec.to_builtins(changes))

    def journal(self, name: str) -> tuple[AppliedChange, ...]:
        """The changes of the link's schedule that have happened up to now."""
        found = self._channel.request("journal", name=name)
        return msgspec.convert(found, tuple[AppliedChange, ...])

    def counters(self, name: str) -> LinkCounters:
        """What the link has counted up to now."""
        return msgspec.convert(self._channel.request("counters", name=name), LinkCounters)

    def read_back(self, name: str) -> tuple[Impairments, Impairments]:
        """The impairments in force, forward and reverse; delays in whole nanoseconds."""
        found: dict[str, Any] = self._channel.request("read_back", name=name)
        return (
            msgspec.convert(found["forward"], Impairments),
            msgspec.convert(found["reverse"], Impairments),
        )


def _arguments(impairments: Impairments) -> Any:
    # Checked here, too: JSON has no word for infinity, nor for what is not a number.
    try:
        refuse_impossible(impairments)
    except ValueError as error:
        raise LabError(f"impairments of a link: {error}") from None
    return msgspec.to_builtins(impairments)
