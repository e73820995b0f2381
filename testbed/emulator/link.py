"""A link in the emulator: two frame descriptors and a pipeline from each to the other."""

from __future__ import annotations

import os
import time
from typing import Literal, TypeAlias

from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.element import NEVER, Nanoseconds
from testbed.emulator.limits import refuse_impossible
from testbed.emulator.pipeline import Pipeline
from testbed.topology.model import Impairments

DirectionName: TypeAlias = Literal["forward", "reverse"]

#: Frames moved before another direction gets its turn.
BATCH = 64
#: The longest frame a TAP can give: the largest MTU, Ethernet header and two VLAN tags.
LONGEST_FRAME = 65535 + 14 + 8


class Workspace:
    """What all links of one process share: a buffer to read into, and the clock's verdict."""

    def __init__(self) -> None:
        self.buffers = [bytearray(LONGEST_FRAME)]
        self.view = memoryview(self.buffers[0])
        self.lateness = LatenessHistogram()


class Direction:
    """Reads frames from `source`, takes them through the pipeline, writes them to `target`."""

    def __init__(self, pipeline: Pipeline, source: int, target: int, workspace: Workspace) -> None:
        self.pipeline = pipeline
        self.source = source
        self.target = target
        self._workspace = workspace
        #: When the ferry means to call `release`.
        self.scheduled: Nanoseconds = NEVER

    def receive(self) -> bool:
        """Read up to BATCH frames; False when the source will never give one again."""
        readv, source = os.readv, self.source
        buffers, view = self._workspace.buffers, self._workspace.view
        take, clock = self.pipeline.take, time.monotonic_ns
        packets = size = 0
        alive = True
        try:
            while packets < BATCH:
                length = readv(source, buffers)
                packets += 1
                size += length
                take(bytes(view[:length]), clock())
        except BlockingIOError:
            pass
        except OSError:
            alive = False  # EBADFD: the interface is gone
        tally = self.pipeline.tally
        tally.packets_in += packets
        tally.bytes_in += size
        return alive

    def release(self, now: Nanoseconds) -> None:
        """Write up to BATCH frames that are due by `now`."""
        pipeline = self.pipeline
        pipeline.advance(now)
        write, clock, target = os.write, time.monotonic_ns, self.target
        record = self._workspace.lateness.record
        sent = refused = size = 0
        for due, frame in pipeline.departures.pop_due(now, BATCH):
            record(clock() - due)
            try:
                write(target, frame)
            except OSError:
                refused += 1
            else:
                sent += 1
                size += len(frame)
        tally = pipeline.tally
        tally.packets_out += sent
        tally.bytes_out += size
        tally.dropped["tap"] += refused


class Link:
    """Two directions over the descriptors `fds`, which belong to the link from now on."""

    def __init__(
        self,
        name: str,
        fds: tuple[int, int],
        forward: Impairments,
        reverse: Impairments,
        seed: int,
        workspace: Workspace,
    ) -> None:
        self.name = name
        self.fds = fds
        self._asked: dict[DirectionName, Impairments] = {"forward": forward, "reverse": reverse}
        self.directions: dict[DirectionName, Direction] = {
            "forward": Direction(Pipeline(seed, name, "forward"), fds[0], fds[1], workspace),
            "reverse": Direction(Pipeline(seed, name, "reverse"), fds[1], fds[0], workspace),
        }
        self._configure(self._asked)
        for fd in fds:
            os.set_blocking(fd, False)

    def set(self, direction: DirectionName, impairments: Impairments) -> None:
        """Change one direction; what is unchanged in it keeps its state.

        Raises `ValueError` for what cannot be, having changed nothing.
        """
        self._configure({**self._asked, direction: impairments})

    def _configure(self, asked: dict[DirectionName, Impairments]) -> None:
        # Both directions: a limit in bandwidth-delay products depends on both delays.
        for impairments in asked.values():
            refuse_impossible(impairments)
        both = asked["forward"].delay + asked["reverse"].delay
        for name, direction in self.directions.items():
            direction.pipeline.configure(asked[name], both, time.monotonic_ns())
        self._asked = asked
