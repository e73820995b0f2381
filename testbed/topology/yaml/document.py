"""YAML text as a tree that remembers its lines, within limits that hostile text cannot break.

Scalars are resolved by the core schema of YAML 1.2 (section 10.3.2), so `no` and `on` are text
and `1:30` is no number. Aliases are allowed as long as the expanded document stays small; tags,
merge keys and several documents in one file are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from testbed.errors import InvalidValue, TopologyError
from testbed.wording import quote

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 24
MAX_NODES: Final = 200_000
_TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FLOW = re.compile(r"""(?<![^\s\[{,:])(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*')|[\[{]|[]}]""", re.DOTALL)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_OTHER_BASE = re.compile(r"0(?:o[0-7]{1,18}|x[0-9a-fA-F]{1,15})\Z")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,9})?\Z"
)
_NOT_FINITE = re.compile(r"(?:([-+]?)\.(?:inf|Inf|INF)|\.nan|\.NaN|\.NAN)\Z")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value; `text` is how it was written."""

    line: int
    value: Scalar
    text: str


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    line: int
    items: list[TreeNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping: key -> (line of the key, value); `repeated` are keys given twice, by line."""

    line: int
    entries: dict[str, tuple[int, TreeNode]] = field(default_factory=dict)
    repeated: list[tuple[int, str]] = field(default_factory=list)


TreeNode: TypeAlias = ScalarNode | SequenceNode | MappingNode


def read_text(path: Path) -> str:
    """The text of a topology file. Raises TopologyError if it is missing, huge or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TopologyError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:  # a NUL in the path
        raise TopologyError([f"{quote(str(path))}: cannot be read: {error}"]) from None
    _refuse_huge(len(data), str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TopologyError(
            [f"{path}:{line}: the file is not UTF-8 text; save it as such"]
        ) from None


def parse(text: str, source: str) -> TreeNode:
    """The tree of a YAML text. Raises TopologyError for what is no (or unreasonable) YAML."""
    _refuse_huge(len(text), source)
    found = _FORBIDDEN.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise TopologyError(
            [f"{source}:{line}: character {quote(found[0])} is not allowed in YAML"]
        )
    try:
        tree = _TreeBuilder(source).build(yaml.parse(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise TopologyError([_syntax_problem(error, text, source)]) from None
    except (ValueError, OverflowError) as error:  # escapes beyond Unicode, by the Python scanner
        raise TopologyError([f"{source}: not valid YAML: {error}"]) from None
    if tree is None or (isinstance(tree, ScalarNode) and tree.value is None):
        raise TopologyError([f"{source}: is empty; a topology needs at least `name:` and `nodes:`"])
    return tree


def plain(node: TreeNode) -> Any:
    """The tree as JSON-compatible data (dict, list, str, int, float, bool, None)."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, (_, value) in node.entries.items()}


def tree_of(data: object, depth: int = 1) -> TreeNode:
    """The tree of plain data; what is no list, mapping or scalar of YAML becomes its text.

    Raises InvalidValue for data that is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise InvalidValue(_TOO_DEEP)
    if isinstance(data, dict):
        return MappingNode(
            1, {str(key): (1, tree_of(value, depth + 1)) for key, value in data.items()}
        )
    if isinstance(data, list | tuple):
        return SequenceNode(1, [tree_of(item, depth + 1) for item in data])
    if data is None or isinstance(data, str | int | float):
        return ScalarNode(1, data, str(data))
    return ScalarNode(1, repr(data), repr(data))


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _OTHER_BASE.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    special = _NOT_FINITE.match(text)
    if special:
        return float(text.replace(".", ""))
    return text


def _refuse_huge(size: int, source: str) -> None:
    if size > MAX_BYTES:
        raise TopologyError(
            [
                f"{source}: is larger than {MAX_BYTES >> 20} MiB; "
                "describe large networks with groups (`hosts: {count: 50}`)"
            ]
        )


def _syntax_problem(error: yaml.YAMLError, text: str, source: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    if _flow_depth(text[: mark.index] if mark else text) > MAX_DEPTH:
        return f"{source}{line}: {_TOO_DEEP}"
    said = [getattr(error, name, None) for name in ("context", "problem")]
    what = ", ".join(part for part in said if part) or " ".join(str(error).split())
    return f"{source}{line}: not valid YAML: {what}"


def _flow_depth(text: str) -> int:
    """How deeply brackets and braces outside quotes are nested in `text` at most.

    The parsers read up to 1,024 characters ahead of the events they give, so a limit of their own
    can be met before the first event of a deep document.
    """
    depth = deepest = 0
    for token in _FLOW.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth = max(depth - 1, 0)
    return deepest


class _TreeBuilder:
    """Builds the tree from parser events, counting what an attacker could blow up.

    Events are typed Any: the stubs allow their marks to be None, which the parsers never do.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._anchors: dict[str, TreeNode] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # id of a node -> nodes and depth below it
        self._count = 0

    def build(self, events: Iterator[Any]) -> TreeNode | None:
        root: TreeNode | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._refusal(event, "a second document; one file holds one topology")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 1)
        return root

    def _refusal(self, event: Any, what: str) -> TopologyError:
        return TopologyError([f"{self._source}:{event.start_mark.line + 1}: {what}"])

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> TreeNode:
        if depth > MAX_DEPTH:
            raise self._refusal(event, _TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if getattr(event, "tag", None) not in (None, "!"):
            raise self._refusal(event, f"tag {quote(event.tag)} is not allowed; remove it")
        before = self._count
        self._add(1, event)
        self._anchors.pop(event.anchor, None)  # an alias inside its own anchor finds nothing
        node: TreeNode
        if isinstance(event, yaml.ScalarEvent):
            node = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = self._mapping(event, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
            self._sizes[id(node)] = (self._count - before, _depth(node))
        return node

    def _add(self, nodes: int, event: Any) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise self._refusal(event, f"more than {MAX_NODES} values, aliases expanded")

    def _alias(self, event: Any, depth: int) -> TreeNode:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._refusal(event, f"alias *{event.anchor} names no finished anchor before it")
        size, height = self._sizes[id(node)]
        if depth + height - 1 > MAX_DEPTH:
            raise self._refusal(event, _TOO_DEEP)
        self._add(size, event)
        return node

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> SequenceNode:
        node = SequenceNode(start.start_mark.line + 1)
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            node.items.append(self._node(event, events, depth + 1))
        return node

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> MappingNode:
        node = MappingNode(start.start_mark.line + 1)
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            if not isinstance(key, ScalarNode):
                raise self._refusal(event, "a key must be plain text, not a list or a mapping")
            if key.text == "<<":
                raise self._refusal(event, "merge keys (<<) are not supported; repeat the keys")
            value = self._node(next(events), events, depth + 1)
            if key.text in node.entries:
                node.repeated.append((event.start_mark.line + 1, key.text))
            else:
                node.entries[key.text] = (event.start_mark.line + 1, value)
        return node


def _scalar(event: Any) -> ScalarNode:
    plain_style = event.style is None or event.style == ""
    value = resolve(event.value) if plain_style and event.tag is None else event.value
    return ScalarNode(event.start_mark.line + 1, value, event.value)


def _depth(node: TreeNode) -> int:
    if isinstance(node, ScalarNode):
        return 1
    if isinstance(node, SequenceNode):
        return 1 + max(map(_depth, node.items), default=0)
    return 1 + max((_depth(value) for _, value in node.entries.values()), default=0)
