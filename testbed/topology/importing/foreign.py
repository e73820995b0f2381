"""The file of another tool while it is read: its parts by line, its faults, what is left out."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

import msgspec

from testbed.errors import InvalidValue
from testbed.topology import names
from testbed.topology.importing.writing import yaml_text
from testbed.topology.problems import MAX_PROBLEMS, Path, Problem, refuse
from testbed.topology.yaml.document import MappingNode, ScalarNode, SequenceNode, TreeNode, parse
from testbed.wording import quote, suggestion

Value = TypeVar("Value")

#: Why a part is left out of which no more can be said.
NOTHING: Final = "nothing in a topology means it"

_VARIABLE: Final = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::?[-=](?P<default>[^{}]*)|[^{}]*)\})"
)


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file of another tool.

    text: a topology in YAML. left_out: a line for each part of the file that the topology does not
    have, and why.
    """

    text: str
    left_out: tuple[str, ...]


class ForeignFile:
    """Faults and left-out parts of a file, by line.

    source: what messages call it. folder: where names of files in it start from. beside: the
    folder of the topology to be made, whose names of files start there.
    """

    def __init__(self, source: str, folder: FilePath, beside: FilePath) -> None:
        self._source = source
        self._folder = folder
        self._beside = beside
        self._faults: dict[tuple[int, Problem], None] = {}
        self._left_out: dict[tuple[int, Problem], None] = {}

    def read(self, text: str) -> Part:
        """The whole of it. Raises TopologyError for what is no YAML."""
        tree = parse(text, self._source)
        return Part(self, tree, tree.line, ())

    def fault(self, line: int, path: Path, text: str) -> None:
        """Something that no topology can be made of."""
        self._faults[line, Problem(path, text)] = None

    def near(self, word: str, known: Iterable[str]) -> str:
        """A suggestion, as long as anybody will see it: looking for one takes time."""
        return suggestion(word, known) if len(self._faults) < MAX_PROBLEMS else ""

    def leave_out(self, line: int, path: Path, why: str) -> None:
        """A part that the topology does not have."""
        self._left_out[line, Problem(path, why)] = None

    def local(self, name: str) -> tuple[FilePath, str]:
        """A file that is named in it: where it is, and how the topology is to call it."""
        path = self._folder / name
        if FilePath(name).is_absolute():
            return path, name
        return path, os.path.relpath(path, self._beside)

    def imported(self, topology: Mapping[str, Any]) -> Imported:
        """The result. Raises TopologyError with all faults, one line each."""
        if self._faults:
            raise refuse(self._lines(self._faults))
        return Imported(text=yaml_text(topology), left_out=tuple(self._lines(self._left_out)))

    def _lines(self, found: Mapping[tuple[int, Problem], None]) -> Iterator[str]:
        for line, problem in sorted(found, key=lambda entry: entry[0]):
            yield f"{self._source}:{line}: {problem}"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a foreign file, its line and its path from the top.

    What it should be and is not becomes a fault of the file; the answer is then empty or None.
    """

    file: ForeignFile
    node: TreeNode
    line: int
    path: Path

    def fault(self, text: str) -> None:
        """Note why nothing can be made of this."""
        self.file.fault(self.line, self.path, text)

    def unknown(self, what: str, name: str, known: Iterable[str]) -> None:
        """Note that the file has no node (or network, or group) of this name."""
        self.fault(f"there is no {what} {quote(name)}{self.file.near(name, known)}")

    def leave_out(self, why: str) -> None:
        """Note why the topology does not have this."""
        self.file.leave_out(self.line, self.path, f"left out: {why}")

    def note(self, text: str) -> None:
        """Note what differs from what this says."""
        self.file.leave_out(self.line, self.path, text)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, SequenceNode)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, MappingNode)

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, ScalarNode) and self.node.value is None

    @property
    def size(self) -> int:
        """How many values there are in it, itself counted."""
        return _size(self.node)

    def entries(self) -> dict[str, Part]:
        """The values of a mapping by key; none of what is left empty."""
        if self.is_null:
            return {}
        if not isinstance(self.node, MappingNode):
            self.fault("expected a mapping")
            return {}
        for line, key in self.node.repeated:
            self.file.fault(line, (*self.path, key), "this key is given twice")
        return {
            key: Part(self.file, value, line, (*self.path, key))
            for key, (line, value) in self.node.entries.items()
        }

    def items(self) -> list[Part]:
        """The items of a list; none of what is left empty."""
        if self.is_null:
            return []
        if not isinstance(self.node, SequenceNode):
            self.fault("expected a list")
            return []
        return [
            Part(self.file, item, item.line, (*self.path, index))
            for index, item in enumerate(self.node.items)
        ]

    def text(self) -> str | None:
        """One value as it is written, with the defaults of variables such as `${TAG:-1}` in it.

        Variables of the environment are not looked up: the same file makes the same topology
        everywhere.
        """
        if not isinstance(self.node, ScalarNode) or self.node.value is None:
            self.fault("expected one value")
            return None
        unset: list[str] = []

        def value(found: re.Match[str]) -> str:
            if found["escaped"]:
                return "$"
            if found["default"] is not None:
                self.note(f"{found[0]} is taken as {quote(found['default'])}, its default")
                return found["default"]
            unset.append(found["bare"] or found["name"])
            return ""

        text = _VARIABLE.sub(value, self.node.text)
        if unset:
            what = f"the variable {unset[0]} has no default in this file; write its value here"
            self.fault(f"{what}, as the environment is not looked up (or $$ for a plain $)")
            return None
        return text

    def parsed(self, parse: Callable[[str], Value]) -> Value | None:
        """Its text through a parser that raises InvalidValue."""
        text = self.text()
        if text is None:
            return None
        try:
            return parse(text)
        except InvalidValue as error:
            self.fault(str(error))
            return None

    def switch(self) -> bool:
        """Whether it is true."""
        if isinstance(self.node, ScalarNode) and isinstance(self.node.value, bool):
            return self.node.value
        self.fault("expected true or false")
        return False

    def words(self) -> list[str]:
        """A command: a list, or text that is split as a shell does."""
        if not self.is_list:
            return self.parsed(split_words) or []
        return [text for item in self.items() if (text := item.text()) is not None]


def _size(node: TreeNode) -> int:
    if isinstance(node, MappingNode):
        return 1 + sum(_size(value) for _, value in node.entries.values())
    return 1 + sum(map(_size, node.items)) if isinstance(node, SequenceNode) else 1


def split_words(text: str) -> list[str]:
    """The words of a command line; nothing in it is expanded. Raises InvalidValue."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidValue(f"{quote(text)} is no command line: {error}") from None


def topology_name(given: str) -> str:
    """The nearest name that a topology can have: `Web_Shop` -> `web-shop`."""
    return re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")[:63].strip("-") or "imported"


def named(part: Part, key: str) -> str:
    """A key that is to be the name of a node."""
    try:
        return names.parse_node_name(key)
    except InvalidValue as error:
        part.fault(str(error))
        return key
