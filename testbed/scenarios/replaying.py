"""Whether a result can be had again, packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec

from testbed.errors import ScenarioError
from testbed.kernel.uml.store import find_kernel
from testbed.scenarios.result import Asked, Result
from testbed.scenarios.runner import RESULT_FILE
from testbed.trace import CaptureFile


class Comparison(msgspec.Struct, frozen=True):
    """Whether two results are equal, and what to say of it."""

    equal: bool
    text: str


def asked_of(folder: Path) -> Asked:
    """What a result's command line had asked for.

    Raises `ScenarioError` where it cannot be had again, `KernelError` where its kernel is gone.
    """
    file = folder / RESULT_FILE
    try:
        result = msgspec.json.decode(file.read_bytes(), type=Result)
    except (FileNotFoundError, NotADirectoryError):
        raise ScenarioError(
            f"There is no {RESULT_FILE} in {folder}: give the folder of one `testbed run`."
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise ScenarioError(f"{file} is not the result of `testbed run`: {error}.") from None
    if result.asked is None or result.asked.clock != "virtual":
        raise ScenarioError(
            f"{folder} was made by the real clock, which makes no two runs alike. Only what "
            "`testbed run --clock virtual` has made can be replayed."
        )
    for name in result.asked.kernels.values():
        find_kernel(name)
    return result.asked


def compare(before: Path, after: Path) -> Comparison:
    """Compare two folders of results by their captures and `result.json`."""
    captures = [_captures(folder) for folder in (before, after)]
    if captures[0] != captures[1]:
        differing = ", ".join(map(str, sorted(captures[0] ^ captures[1])))
        return Comparison(False, f"Not the same: only one of the two has {differing}.")
    for name in sorted(captures[0]):
        if (before / name).read_bytes() != (after / name).read_bytes():
            return Comparison(
                False, f"Not the same: {name}, {_first_difference(before, after, name)}"
            )
    if (before / RESULT_FILE).read_bytes() != (after / RESULT_FILE).read_bytes():
        return Comparison(False, f"All packets are the same, but not {RESULT_FILE}.")
    text = f"The same, byte for byte: {RESULT_FILE} and {len(captures[0])} captures."
    return Comparison(True, text)


def _captures(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.pcap")}


def _first_difference(before: Path, after: Path, name: Path) -> str:
    """Where two captures part: number and time of the first packet that differs."""
    packets = zip_longest(_packets(before / name), _packets(after / name))
    for number, (one, other) in enumerate(packets, 1):
        if one is None or other is None:
            more = "it has ended before" if one is None else "the replay has ended before"
            return f"packet {number}: {more}."
        if one != other:
            late = other[0] - one[0]
            if one[1] == other[1]:
                return f"packet {number}: the same bytes {late:+d} ns later."
            differing = sum(a != b for a, b in zip(one[1], other[1], strict=False))
            return (
                f"packet {number}: {len(one[1])} and {len(other[1])} bytes, of which {differing} "
                f"differ, {late:+d} ns later."
            )
    return "in no packet: its header differs."


def _packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """Time in ns and bytes of each packet."""
    file = CaptureFile(path)
    for time, _, start, end, *_ in file.frames():
        yield time, file.data[start:end]
