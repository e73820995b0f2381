"""The shapes that parts of a YAML file can have, of which the grammar is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from testbed.errors import InvalidValue
from testbed.wording import join, quote, suggestion


@dataclass(frozen=True)
class Scalar:
    """A single value: `parse` takes what YAML resolved and raises InvalidValue."""

    name: str
    expects: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class OneOf:
    """One of several words. `words` tells them when they are needed: some are registered late."""

    name: str
    words: Callable[[], tuple[str, ...]]

    @property
    def expects(self) -> str:
        return f"one of {join(self.words())}"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"enum": list(self.words())}

    def parse(self, value: Any) -> str:
        """The word itself. Raises InvalidValue."""
        words = self.words()
        if isinstance(value, str) and value in words:
            return value
        near = suggestion(value, words) if isinstance(value, str) else ""
        raise InvalidValue(f"expected {self.expects}, got {described(value)}{near}")


Single: TypeAlias = Scalar | OneOf


@dataclass(frozen=True)
class Items:
    """A list of at least `least` and at most `most` items."""

    item: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class OneOrMore:
    """One value, or a list of them."""

    item: Single


@dataclass(frozen=True)
class Key:
    """A key of a record; `default` is how the reference tells what its absence means."""

    name: str
    shape: Shape
    description: str
    required: bool = False
    default: str = ""


@dataclass(frozen=True)
class Record:
    """A mapping with known keys; `build` makes a model object of their values, if given.

    empty: nothing at all (`core:`) stands for no keys.
    registered: further keys, told when they are needed.
    """

    name: str
    description: str
    own_keys: tuple[Key, ...]
    build: Callable[..., Any] | None = None
    empty: bool = False
    registered: Callable[[], tuple[Key, ...]] = tuple

    @property
    def keys(self) -> tuple[Key, ...]:
        return self.own_keys + self.registered()


@dataclass(frozen=True)
class Table:
    """A mapping with keys of the user's choice."""

    key: Single
    value: Shape
    least: int = 0


@dataclass(frozen=True)
class Named:
    """A bare name, or a mapping of that one name to its options (which are not looked into)."""

    name: Single


@dataclass(frozen=True)
class Variants:
    """A mapping whose other keys depend on the word under the key `tag`."""

    tag: Key
    records: Mapping[str, Record]


@dataclass(frozen=True)
class Either:
    """A single value, or a mapping that says more; `build` makes the same of the single value
    as the mapping's own does."""

    plain: Single
    full: Record | Variants
    build: Callable[[Any], Any] = lambda value: value


Shape: TypeAlias = Single | Items | OneOrMore | Record | Table | Named | Variants | Either


def described(value: object) -> str:
    """A YAML value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    return quote(value)


def text(name: str, expects: str, parse: Callable[[str], Any], pattern: str, **more: Any) -> Scalar:
    """A text; more: keywords of its JSON Schema."""

    def checked(value: Any) -> Any:
        if isinstance(value, str):
            return parse(value)
        hint = "" if value is None else "; put it in quotes if it is meant as text"
        raise InvalidValue(f"expected {expects}, got {described(value)}{hint}")

    shape = {"pattern": pattern} if pattern else {}
    return Scalar(name, expects, checked, {"type": "string", **shape, **more})


def choice(name: str, words: tuple[str, ...]) -> OneOf:
    """One of several words that are known now."""
    return OneOf(name, lambda: words)


def whole(name: str, low: int, high: int) -> Scalar:
    """A whole number."""
    expects = f"a whole number from {low} to {high}"

    def checked(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise InvalidValue(f"expected {expects}, got {described(value)}")

    return Scalar(name, expects, checked, {"type": "integer", "minimum": low, "maximum": high})
