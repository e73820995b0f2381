"""What becomes of a lab's captures when a test fails: files to keep, and a summary to read."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console

from testbed.errors import TestbedError
from testbed.lab import Lab
from testbed.lab.draining import drain
from testbed.report import ladder_from_files
from testbed.report.ladder_terminal import draw
from testbed.report.tables import trace_table
from testbed.trace import read_trace

_TABLE_WIDTH, _LADDER_WIDTH = 160, 100
_MOST_ARROWS = 40
_MOST_BYTES = 32 << 20
_LONGEST_NAME = 150


class Kept(msgspec.Struct, frozen=True):
    """A capture that was kept; `fault` says what is wrong with it."""

    path: Path
    fault: str = ""


def directory_name(nodeid: str) -> str:
    """A folder's name for a test: `tests/test_a.py::test_b[c]` -> `tests-test_a.py-test_b[c]`."""
    return re.sub(r"[^\w.,=+\[\]-]+", "-", nodeid)[-_LONGEST_NAME:].strip("-.") or "test"


class Held(msgspec.Struct, frozen=True):
    """A finished capture that outlives its lab; `fault` says what is wrong with it."""

    name: str
    file: IO[bytes]
    fault: str = ""


def hold(lab: Lab) -> tuple[Held, ...]:
    """Finish the captures of a running lab and hold their files open."""
    with contextlib.suppress(TestbedError):  # a lab that broke has told so already
        drain(lab.links, lab.nodes.values())
    held = []
    for capture in lab.captures.values():
        fault = ""
        try:
            capture.stop()
        except TestbedError as error:
            fault = str(error)
        file = capture.path.open("rb")
        held.append(Held(f"{capture.node}-{capture.interface}.pcap", file, fault))
    return tuple(held)


def keep(held: Sequence[Held], directory: Path) -> tuple[Kept, ...]:
    """Copy captures to `directory`, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    kept = []
    for one in held:
        path = directory / one.name
        one.file.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(one.file, file)
        kept.append(Kept(path, one.fault))
    return tuple(kept)


def describe(kept: Sequence[Kept]) -> str:
    """Where the captures are, the connections in them, and the ladder of the first one."""
    lines = [f"{one.path}{f': {one.fault}' if one.fault else ''}" for one in kept]
    paths = [one.path for one in kept if one.path.stat().st_size <= _MOST_BYTES]
    console = Console(file=io.StringIO(), width=_TABLE_WIDTH, color_system=None)
    try:
        traces = [read_trace(path) for path in paths]
        for trace in traces:
            console.print(trace_table(trace))
        if any(trace.connections for trace in traces):
            ladder = ladder_from_files(paths, limit=_MOST_ARROWS)
            console.print(draw(ladder, _LADDER_WIDTH), soft_wrap=True)
    except TestbedError as error:
        console.print(str(error), markup=False)
    assert isinstance(console.file, io.StringIO)
    lines += [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join(lines)
