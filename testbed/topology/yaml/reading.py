"""Reads a YAML tree by the grammar: values in base units, and a problem for all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology.problems import MAX_PROBLEMS, Path, Problem
from testbed.topology.values.shapes import (
    Either,
    Items,
    Key,
    Named,
    OneOf,
    OneOrMore,
    Record,
    Scalar,
    Shape,
    Single,
    Table,
    Variants,
    described,
)
from testbed.topology.yaml.document import MappingNode, ScalarNode, SequenceNode, TreeNode, plain
from testbed.wording import join, quote, suggestion


class Invalid:
    """Stands for a value that could not be read; the problem has been noted."""


INVALID: Final = Invalid()


def read(shape: Shape, node: TreeNode, problems: list[Problem]) -> Any:
    """The value of a tree: dict, list, scalar or model object by its shape; INVALID in places.

    Faults are appended to `problems`. Entries of a record that could not be read are left out;
    items of a list and values of a table are kept as INVALID, so that indexes and names hold.
    """
    return _Reader(problems).read(shape, node, ())


class _Reader:
    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def read(self, shape: Shape, node: TreeNode, path: Path) -> Any:
        match shape:
            case Scalar() | OneOf():
                return self._scalar(shape, node, path)
            case Items():
                return self._items(shape, node, path)
            case OneOrMore():
                if isinstance(node, SequenceNode):
                    return self._items(Items(shape.item, 1, 2), node, path)
                value = self._scalar(shape.item, node, path)
                return value if value is INVALID else [value]
            case Record():
                return self._record(shape, node, path)
            case Table():
                return self._table(shape, node, path)
            case Named():
                return self._named(shape, node, path)
            case Either():
                if isinstance(node, MappingNode):
                    return self.read(shape.full, node, path)
                return self._plain(shape, node, path)
            case Variants():
                return self._variant(shape, node, path)

    def _note(self, path: Path, text: str) -> Invalid:
        self._problems.append(Problem(path, text))
        return INVALID

    def _near(self, word: str, known: Mapping[str, Key]) -> str:
        few = len(self._problems) < MAX_PROBLEMS  # beyond that nobody sees it, and it costs time
        return suggestion(word, known) if few else ""

    def _scalar(self, shape: Single, node: TreeNode, path: Path) -> Any:
        if not isinstance(node, ScalarNode):
            return self._note(path, f"expected {shape.expects}, got {_kind(node)}")
        try:
            return shape.parse(node.value)
        except InvalidValue as error:
            return self._note(path, str(error))

    def _plain(self, shape: Either, node: TreeNode, path: Path) -> Any:
        if not isinstance(node, ScalarNode):
            expects = f"{shape.plain.expects}, or a mapping ({example(shape.full)})"
            return self._note(path, f"expected {expects}, got {_kind(node)}")
        value = self._scalar(shape.plain, node, path)
        return value if value is INVALID else shape.build(value)

    def _variant(self, shape: Variants, node: TreeNode, path: Path) -> Any:
        mapping = self._mapping(node, path, False, example(shape))
        if mapping is INVALID:
            return INVALID
        tag = shape.tag.name
        if tag not in mapping.entries:
            known = join(shape.records)
            return self._note(path, f"the key {tag!r} is missing, which says what it is: {known}")
        others = {name: entry for name, entry in mapping.entries.items() if name != tag}
        word = self.read(shape.tag.shape, mapping.entries[tag][1], (*path, tag))
        if word is INVALID:
            return INVALID
        return self._record(shape.records[word], MappingNode(node.line, others), path)

    def _items(self, shape: Items, node: TreeNode, path: Path) -> Any:
        if not isinstance(node, SequenceNode):
            return self._note(path, f"expected a list, got {_kind(node)}")
        count = len(node.items)
        if count < shape.least or (shape.most is not None and count > shape.most):
            return self._note(path, f"expected {_wanted(shape)}, got {count}")
        return [self.read(shape.item, item, (*path, i)) for i, item in enumerate(node.items)]

    def _mapping(self, node: TreeNode, path: Path, empty: bool, example: str) -> Any:
        if empty and isinstance(node, ScalarNode) and node.value is None:
            return MappingNode(node.line)
        if not isinstance(node, MappingNode):
            return self._note(path, f"expected a mapping ({example}), got {_kind(node)}")
        for line, key in node.repeated:
            where = f"first in line {node.entries[key][0]}, again in line {line}"
            self._note((*path, key), f"this key is given twice: {where}")
        return node

    def _record(self, shape: Record, node: TreeNode, path: Path) -> Any:
        known = {key.name: key for key in shape.keys}
        mapping = self._mapping(node, path, shape.empty, example(shape))
        if mapping is INVALID:
            return INVALID
        values = {}
        for name, (_, child) in mapping.entries.items():
            if name not in known:
                valid = f"valid keys: {', '.join(known)}" if known else "it has no keys"
                near = self._near(name, known) or f"; {valid}"
                self._note((*path, name), f"unknown key {quote(name)} in a {shape.name}{near}")
                continue
            value = self.read(known[name].shape, child, (*path, name))
            if value is not INVALID:
                values[name] = value
        for key in shape.keys:
            if key.required and key.name not in mapping.entries:
                self._note(path, f"the key {key.name!r} is missing in this {shape.name}")
        if shape.build is None:
            return values
        given = {key.name for key in shape.keys if key.required or key.name in mapping.entries}
        if not given <= values.keys():
            return INVALID
        return shape.build(**{name: without_invalid(value) for name, value in values.items()})

    def _table(self, shape: Table, node: TreeNode, path: Path) -> Any:
        mapping = self._mapping(node, path, False, f"{shape.key.name}: ...")
        if mapping is INVALID:
            return INVALID
        if len(mapping.entries) < shape.least:
            return self._note(path, f"expected at least {shape.least} entry, got an empty mapping")
        values = {}
        for name, (_, child) in mapping.entries.items():
            try:
                shape.key.parse(name)
            except InvalidValue as error:
                self._note((*path, name), str(error))
            values[name] = self.read(shape.value, child, (*path, name))
        return values

    def _named(self, shape: Named, node: TreeNode, path: Path) -> Any:
        if isinstance(node, ScalarNode):
            name = self._scalar(shape.name, node, path)
            return name if name is INVALID else (name, {})
        if not isinstance(node, MappingNode) or len(node.entries) + len(node.repeated) != 1:
            expects = f"{shape.name.expects}, or one such name with its options"
            return self._note(path, f"expected {expects}, got {_kind(node)}")
        ((name, (_, options)),) = node.entries.items()
        try:
            shape.name.parse(name)
        except InvalidValue as error:
            return self._note((*path, name), str(error))
        body = self._mapping(options, (*path, name), True, "option: value")
        return INVALID if body is INVALID else (name, plain(body))


def without_invalid(value: Any) -> Any:
    """A value for a model object: lists as tuples, unreadable items left out."""
    if isinstance(value, list):
        return tuple(item for item in value if item is not INVALID)
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not INVALID}
    return value


def example(shape: Record | Variants) -> str:
    """How a mapping of this shape begins."""
    if isinstance(shape, Variants):
        return f"`{shape.tag.name}: ...`"
    return f"`{shape.keys[0].name}: ...`" if shape.keys else "`{}`"


def _wanted(shape: Items) -> str:
    if shape.least == shape.most:
        return f"a list of exactly {shape.least} items"
    if shape.most is None:
        return f"a list of at least {shape.least} items"
    if not shape.least:
        return f"a list of at most {shape.most} items"
    return f"a list of {shape.least} to {shape.most} items"


def _kind(node: TreeNode) -> str:
    if isinstance(node, ScalarNode):
        return described(node.value)
    if isinstance(node, SequenceNode):
        return f"a list of {len(node.items)}"
    keys = ", ".join(quote(key) for key in list(node.entries)[:3])
    return f"a mapping with the keys {keys}" if keys else "an empty mapping"
