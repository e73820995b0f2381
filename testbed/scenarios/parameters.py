"""The typed parameters of a scenario, read off its function's signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec

from testbed.errors import ScenarioError
from testbed.wording import suggestion

#: The parameter that stands for the kernel where several are compared.
KERNEL: Final = "kernel"


#: Types of parameters that make no sense from zero down.
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


_WORDS: Final[dict[Any, str]] = {int: "a whole number", float: "a number", bool: "true or false"}


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: its type (Literal, int, float, bool or str) and default value."""

    name: str
    type: Any
    default: Any

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values it can have, empty where its type does not say."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is typing.Literal else ()

    @property
    def _words(self) -> str:
        if self.type == Positive:
            return "a number above 0"
        if self.type == Count:
            return "a whole number from 1 on"
        return _WORDS.get(self.type, "text")

    def parse(self, value: object) -> Any:
        """The value as its type. Raises `ScenarioError` naming what is possible."""
        try:
            return msgspec.convert(value, self.type, strict=False)
        except msgspec.ValidationError:
            choices = list(map(str, self.choices))
            possible = ", ".join(choices) or self._words
            raise ScenarioError(
                f"The parameter {self.name} cannot be '{value}'; it takes: {possible}"
                f"{suggestion(str(value), choices) or '.'}"
            ) from None


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters after the first, which is the experiment. Every one needs a default."""
    hints = typing.get_type_hints(function, include_extras=True)
    _, *signature = inspect.signature(function).parameters.values()
    for one in signature:
        if one.default is inspect.Parameter.empty:
            raise TypeError(f"parameter '{one.name}' of {function.__name__} has no default")
    return {one.name: Parameter(one.name, hints[one.name], one.default) for one in signature}


def parse_assignments(
    scenario: str, known: Mapping[str, Parameter], given: Mapping[str, str]
) -> dict[str, tuple[Any, ...]]:
    """Values from `name=value[,value...]` as typed tuples. Raises `ScenarioError`."""
    values: dict[str, tuple[Any, ...]] = {}
    for name, text in given.items():
        if name not in known:
            raise ScenarioError(
                f"The scenario {scenario} has no parameter '{name}'"
                f"{suggestion(name, known) or '.'} It has: {', '.join(known) or 'none'}."
            )
        values[name] = tuple(known[name].parse(part) for part in text.split(","))
    return values
