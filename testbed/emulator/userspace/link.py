"""A link in the emulator: two frame descriptors and a chain of elements from each to the other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from testbed.emulator.changes import BothDirections, after, directions_of
from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.elements.chain import Chain
from testbed.emulator.fate import FateLog, LogFile
from testbed.emulator.limits import refuse_impossible
from testbed.kernel.clock import clock_while_working
from testbed.kernel.devices import tun
from testbed.kernel.devices.arrival_stamps import ArrivalStamps
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.timer import NEVER, Nanoseconds
from testbed.topology.model import DirectionName, Impairments, ScheduledChange

#: Frames moved before another direction gets its turn.
BATCH = 64
#: The longest frame a TAP can give: the largest MTU, Ethernet header and two VLAN tags.
LONGEST_FRAME = 65535 + 14 + 8


class Workspace(NamedTuple):
    """What all links of a process share.

    lateness: where it is noted how late frames are handed over.
    load: says how many may be handed over.
    """

    lateness: LatenessHistogram
    load: LoadSharing


class EmulatedDirection:
    """Reads frames from `source`, takes them through the chain, writes them to `target`.

    workspace: what it shares with others. stamps: when the frames came; without them, they came
    when they are read.
    """

    def __init__(
        self,
        chain: Chain,
        source: int,
        target: int,
        workspace: Workspace,
        stamps: ArrivalStamps | None = None,
    ) -> None:
        self.chain = chain
        self.source = source
        self.target = target
        self._lateness, self._load = workspace
        self._stamps = stamps
        self._latest: Nanoseconds = 0
        self._plugged = True
        self._is_cut = False
        #: When the loop means to call `release`.
        self.scheduled: Nanoseconds = NEVER

    def plug(self, plugged: bool) -> None:
        """Let nothing in or out any more, or again."""
        self._plugged = plugged
        self._close()

    def cut(self, engaged: bool) -> None:
        """Let nothing in any more, or again; what is under way arrives."""
        self._is_cut = engaged
        self._close()

    def _close(self) -> None:
        self.chain.cut(self._is_cut or not self._plugged)

    @property
    def wake(self) -> Nanoseconds:
        """When `release` must be called next."""
        return self.chain.wake

    def receive(self) -> bool:
        """Read up to BATCH frames; False when the source will never give one again."""
        frames: list[bytes] = []
        read, source = os.read, self.source
        drained, alive = False, True
        most = self._stamps.unread if self._stamps is not None else None
        most = BATCH if most is None else min(most, BATCH)
        try:
            while len(frames) < most:
                frames.append(read(source, LONGEST_FRAME))
        except BlockingIOError:
            drained = True
        except OSError:
            alive = False  # EBADFD: the interface is gone
        if frames:
            self._take(frames, self._arrivals(len(frames), drained))
        return alive

    def _arrivals(self, frames: int, drained: bool) -> Sequence[Nanoseconds]:
        """When the frames that have just been read came; not before those that were read before."""
        found = self._stamps.of(frames, drained) if self._stamps is not None else None
        if found is None:
            found = [time.monotonic_ns()] * frames
        elif found[0] < self._latest:
            found = [max(moment, self._latest) for moment in found]
        self._latest = found[-1]
        return found

    def _take(self, frames: Sequence[bytes], arrivals: Sequence[Nanoseconds]) -> None:
        tally = self.chain.tally
        tally.packets_in += len(frames)
        tally.bytes_in += sum(map(len, frames))
        if tally.log is None:
            self.chain.take_all(frames, arrivals)
            return
        for frame, arrival in zip(frames, arrivals, strict=True):
            waiting = self.chain.waiting(arrival)
            self.chain.take(tally.log.number(frame, arrival, waiting), arrival)

    def release(self, now: Nanoseconds) -> None:
        """Write up to BATCH frames that are due by `now`."""
        chain = self.chain
        chain.advance(now)
        departing = chain.departures.pop_due(now, self._load.room(BATCH))
        if not departing:
            return
        if not self._plugged:
            for _, frame in departing:
                chain.tally.drop("cut", frame, now)
            return
        self._load.handed_over(len(departing))
        write, clock, target = os.write, clock_while_working(now), self.target
        tally, log = chain.tally, chain.tally.log
        latenesses: list[Nanoseconds] = []
        sent = size = 0
        for due, frame in departing:
            moment = clock()
            latenesses.append(moment - due)
            try:
                size += write(target, frame)
            except OSError:
                tally.drop("tap", frame, moment)
                continue
            sent += 1
            if log is not None:
                log.sent(frame, due, moment)
        tally.packets_out += sent
        tally.bytes_out += size
        self._lateness.record(latenesses)


class EmulatedLink:
    """Two directions over the descriptors `fds`, which belong to the link from now on.

    workspace: what it shares with others. log: where the fate of every frame is to be written, if
    anywhere. stamps: when frames come to each of `fds`, if that is known.
    """

    def __init__(
        self,
        name: str,
        fds: tuple[int, int],
        forward: Impairments,
        reverse: Impairments,
        seed: int,
        workspace: Workspace,
        log: LogFile | None = None,
        stamps: tuple[ArrivalStamps | None, ArrivalStamps | None] = (None, None),
    ) -> None:
        self.name = name
        self.fds = fds
        self.log = log
        self._asked: BothDirections = {"forward": forward, "reverse": reverse}
        there, back = stamps
        self.directions: dict[DirectionName, EmulatedDirection] = {
            "forward": EmulatedDirection(Chain(seed, name, "forward"), *fds, workspace, there),
            "reverse": EmulatedDirection(Chain(seed, name, "reverse"), *fds[::-1], workspace, back),
        }
        self._configure(self._asked)
        if log is not None:
            for direction, carried in self.directions.items():
                carried.chain.tally.log = FateLog(log, direction)
        for fd in fds:
            os.set_blocking(fd, False)

    def set(self, direction: DirectionName, impairments: Impairments) -> None:
        """Change one direction; what is unchanged in it keeps its state.

        Raises `ValueError` for what cannot be, having changed nothing.
        """
        self._configure({**self._asked, direction: impairments})

    def cut(self, direction: DirectionName | None, engaged: bool) -> None:
        """Lose what enters from now on, or no longer, in one direction or both."""
        for name in directions_of(direction):
            self.directions[name].cut(engaged)

    def plug(self, plugged: bool) -> None:
        """Put the cable in, or pull it out. Raises `KernelError` where its ends cannot see it."""
        for fd in self.fds:
            tun.set_carrier(fd, plugged)
        for direction in self.directions.values():
            direction.plug(plugged)

    def apply(self, change: ScheduledChange) -> None:
        """Do what a schedule asks for. Raises `ValueError` as `set` does."""
        self._configure(after(self._asked, change))
        if change.cut is not None:
            self.cut(change.direction, change.cut)
        if change.plugged is not None:
            self.plug(change.plugged)

    def rehearse(self, changes: Sequence[ScheduledChange]) -> None:
        """Raise `ValueError` if these changes would come to something impossible."""
        asked = self._asked
        for change in sorted(changes, key=lambda one: one.at):
            asked = after(asked, change)
            for impairments in asked.values():
                refuse_impossible(impairments)

    def _configure(self, asked: BothDirections) -> None:
        # Both directions: a limit in bandwidth-delay products depends on both delays.
        for impairments in asked.values():
            refuse_impossible(impairments)
        both = asked["forward"].delay + asked["reverse"].delay
        for name, direction in self.directions.items():
            direction.chain.configure(asked[name], both, time.monotonic_ns())
        self._asked = asked
