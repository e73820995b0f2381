"""Faults of a topology: where (a key path), and what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from testbed.errors import TopologyError

Path: TypeAlias = tuple[str | int, ...]

MAX_PROBLEMS: Final = 100


class Problem(NamedTuple):
    """One fault; `path` leads to it from the top: ("links", 1, "delay")."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{key_path(self.path)}: {self.text}" if self.path else self.text


def key_path(path: Path) -> str:
    """`links[1].delay`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            shown = step if step.isprintable() and len(step) <= 80 else repr(step[:80])
            text += f".{shown}" if text else shown
    return text


def refuse(lines: Iterable[str]) -> TopologyError:
    """One error for all faults, or for the first hundred of them."""
    listed = list(lines)
    if len(listed) > MAX_PROBLEMS:
        listed[MAX_PROBLEMS:] = [f"... and more; these are the first {MAX_PROBLEMS}"]
    return TopologyError(listed)
