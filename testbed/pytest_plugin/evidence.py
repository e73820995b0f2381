"""What is known of a lab when a test fails: files to keep, and texts for the report."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console

from testbed.errors import TestbedError
from testbed.lab import Lab
from testbed.lab.draining import drain
from testbed.report import ladder_from_traces
from testbed.report.graph import LinkState, network_picture
from testbed.report.graph_terminal import draw_network
from testbed.report.ladder_terminal import draw
from testbed.report.tables import trace_table
from testbed.topology.planning.plan_model import PlannedLink
from testbed.trace import Connection, End, Trace, read_trace

_TABLE_WIDTH, _LADDER_WIDTH = 160, 100
_MOST_ARROWS = 40
_MOST_BYTES = 32 << 20
_LONGEST_NAME = 150
_PIECE = 1 << 20


class Held(msgspec.Struct, frozen=True):
    """A capture that outlives its lab: `size` bytes of it; `fault` says what is wrong with it."""

    name: str
    file: IO[bytes]
    size: int
    fault: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """A lab as it was at some time: its network, what its middleboxes had counted, its captures."""

    lab: str
    network: str
    middleboxes: str
    captures: tuple[Held, ...]

    def close(self) -> None:
        for one in self.captures:
            one.file.close()


class Kept(msgspec.Struct, frozen=True):
    """A capture that was kept; `fault` says what is wrong with it."""

    path: Path
    fault: str = ""


class Account(msgspec.Struct, frozen=True):
    """What captures tell: which files there are, their connections, and the ladder of one."""

    files: tuple[Path, ...] = ()
    connections: str = ""
    ladder: str = ""

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.connections, self.ladder)))


def directory_name(nodeid: str) -> str:
    """A folder's name for a test: `tests/test_a.py::test_b[c]` -> `tests-test_a.py-test_b[c]`."""
    return re.sub(r"[^\w.,=+\[\]-]+", "-", nodeid)[-_LONGEST_NAME:].strip("-.") or "test"


def gather(lab: Lab, *, goes_on: bool = False) -> Evidence:
    """The evidence of a running lab; its captures are finished, unless it goes on."""
    with contextlib.suppress(TestbedError):  # a lab that broke has told so already
        drain(lab.links, lab.nodes.values())
    return Evidence(lab.topology.name, _network(lab), _middleboxes(lab), tuple(_hold(lab, goes_on)))


def _hold(lab: Lab, goes_on: bool) -> Iterator[Held]:
    for capture in lab.captures.values():
        fault = ""
        try:
            if goes_on:
                capture.flush()
            else:
                capture.stop()
        except TestbedError as error:
            fault = str(error)
        file = capture.path.open("rb")
        size = os.fstat(file.fileno()).st_size
        yield Held(f"{capture.node}-{capture.interface}.pcap", file, size, fault)


def _network(lab: Lab) -> str:
    """A picture of the lab as it is; of one that has failed, as it was planned."""
    links = {id(link.planned): link for link in lab.links}

    def state(planned: PlannedLink) -> LinkState:
        link = links[id(planned)]
        return link.impairments("forward"), link.impairments("reverse"), frozenset()

    try:
        return draw_network(network_picture(lab.plan, state))
    except TestbedError:
        return draw_network(network_picture(lab.plan))


def _middleboxes(lab: Lab) -> str:
    lines: list[str] = []
    try:
        for node in lab.nodes.values():
            if node.middlebox is not None:
                counters = node.counters()
                sides = (
                    f"{side} {counters.received[side].packets} in, {sent.packets} out"
                    for side, sent in counters.sent.items()
                )
                rest = f"created {counters.created}, absorbed {counters.absorbed}, "
                lines.append(f"{node.name}: {'; '.join(sides)}; {rest}held {counters.held}")
                lines += [f"  dropped {n}: {cause}" for cause, n in counters.dropped.items()]
                for function in node.functions().values():
                    counted = (f"{name} {n}" for name, n in function.counters.items() if n)
                    off = "" if function.enabled else " (off)"
                    lines.append(f"  {function.name}{off}: {', '.join(counted) or 'nothing'}")
    except TestbedError as error:
        lines.append(str(error))
    return "\n".join(lines)


def keep(captures: Sequence[Held], directory: Path) -> tuple[Kept, ...]:
    """Copy captures to `directory`, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(Kept(_copy(one, directory / one.name), one.fault) for one in captures)


def _copy(held: Held, path: Path) -> Path:
    held.file.seek(0)
    with path.open("wb") as file:
        left = held.size
        while piece := held.file.read(min(left, _PIECE)):
            file.write(piece)
            left -= len(piece)
    return path


def describe(kept: Sequence[Kept], since_ns: int) -> Account:
    """Where the captures are, the connections in them, and the ladder of the one that failed.

    since_ns: when the test began, by the clock of the captures; what was before is of others.
    """
    files = tuple(one.path for one in kept)
    told = [f"{one.path}{f': {one.fault}' if one.fault else ''}" for one in kept]
    console = Console(file=io.StringIO(), width=_TABLE_WIDTH, color_system=None)
    ladder = ""
    try:
        traces = [read_trace(path) for path in files if path.stat().st_size <= _MOST_BYTES]
        for trace in traces:
            console.print(trace_table(trace))
        ladder = _ladder(traces, since_ns)
    except TestbedError as error:
        console.print(str(error), markup=False)
    assert isinstance(console.file, io.StringIO)
    told += [line.rstrip() for line in console.file.getvalue().splitlines()]
    return Account(files, "\n".join(told), ladder)


def _ladder(traces: Sequence[Trace], since_ns: int) -> str:
    """The ladder of the connection that failed, as far as a capture tells which one that was."""
    traces = [trace for trace in traces if trace.connections]
    if not traces:
        return ""
    chosen = failing(traces[0].connections, since_ns).number
    ladder = ladder_from_traces(traces, connection=chosen, limit=_MOST_ARROWS)
    console = Console(file=io.StringIO(), width=_LADDER_WIDTH, color_system=None)
    console.print(draw(ladder, _LADDER_WIDTH), soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def failing(connections: Sequence[Connection], since_ns: int) -> Connection:
    """The connection that a failing test is most likely about, of those since `since_ns`.

    The first that never opened, or was reset, or sent something again; else the last one.
    """
    of_test = [one for one in connections if one.end >= since_ns] or connections
    return next(filter(_in_trouble, of_test), of_test[-1])


def _in_trouble(connection: Connection) -> bool:
    return (
        connection.handshake.ack is None
        or connection.ended is End.RST
        or bool(connection.retransmissions())
    )
