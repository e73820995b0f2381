"""Checks the options of middlebox functions against the types that declare them.

The types come from outside (a mapping of function name to msgspec Struct), so that the topology
needs to know no middlebox. A field that is a quantity says so in its annotation, and then takes
text with a unit like every other key:

    timeout: Annotated[float, msgspec.Meta(extra={"unit": "duration"})] = 30.0

`unit` is one of duration, rate, size, probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import inspect

from testbed.errors import InvalidValue
from testbed.topology.problems import Path, Problem
from testbed.topology.values import scalars
from testbed.topology.values.shapes import Scalar, described
from testbed.wording import join, quote, suggestion

FunctionOptions = Mapping[str, type[msgspec.Struct]]

UNITS: Final[Mapping[str, Scalar]] = {
    scalar.name: scalar
    for scalar in (scalars.DURATION, scalars.RATE, scalars.SIZE, scalars.PROBABILITY)
}
_BASE_UNITS: Final = {"duration": " s", "rate": " bit/s", "size": " bytes"}


def read_options(
    name: str,
    given: Mapping[str, Any],
    functions: FunctionOptions,
    path: Path,
    *,
    from_python: bool = False,
    partial: bool = False,
) -> tuple[dict[str, Any], list[Problem]]:
    """The options of one function with quantities in base units, and what is wrong with them.

    from_python: numbers without a unit are in base units. partial: those that are missing stay
    as they are.
    """
    if name not in functions:
        near = suggestion(name, functions) or f"; there is {join(sorted(functions))}"
        return dict(given), [Problem(path, f"there is no middlebox function {quote(name)}{near}")]
    options = functions[name]
    fields = {field.encode_name: field for field in option_fields(options)}
    hints = get_type_hints(options, include_extras=True)
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for option, value in given.items():
        where = (*path, name, option)
        if option not in fields:
            near = suggestion(option, fields) or f"; it has {join(sorted(fields), 'and') or 'none'}"
            problems.append(Problem(where, f"{name} has no option {quote(option)}{near}"))
            continue
        field = fields[option]
        try:
            values[option] = _read_value(field.type, hints[field.name], value, from_python)
        except InvalidValue as error:
            problems.append(Problem(where, str(error)))
    if partial:
        return values, problems
    for option, field in fields.items():
        if field.required and option not in given:
            problems.append(Problem((*path, name), f"the option {option!r} of {name} is missing"))
    if not problems:
        try:
            msgspec.convert(values, options)
        except msgspec.ValidationError as error:  # what the type's own __post_init__ refuses
            problems.append(Problem((*path, name), str(error)))
    return values, problems


def option_fields(options: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """The fields of an options type."""
    info = inspect.type_info(options)
    return info.fields if isinstance(info, inspect.StructType) else ()


def unit_of(declared: inspect.Type) -> str | None:
    """The kind of quantity that an annotation says an option is, if any."""
    if isinstance(declared, inspect.Metadata):
        return (declared.extra or {}).get("unit") or unit_of(declared.type)
    if isinstance(declared, inspect.UnionType):
        return next((unit for part in declared.types if (unit := unit_of(part))), None)
    return None


def _read_value(declared: inspect.Type, hint: Any, value: Any, from_python: bool) -> Any:
    unit = unit_of(declared)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    in_base_units = unit is None or value is None or (from_python and number)
    read = value if in_base_units else UNITS[unit or ""].parse(value)
    try:
        msgspec.convert(read, hint)
    except msgspec.ValidationError:
        near = suggestion(value, _words(declared)) if isinstance(value, str) else ""
        said = f"expected {_expected(declared)}, got {described(value)}{near}"
        raise InvalidValue(said) from None
    return read


def _expected(declared: inspect.Type, unit: str = "") -> str:
    """What an option takes, in words; unit: the kind of quantity that an annotation names."""
    if isinstance(declared, inspect.Metadata):
        return _expected(declared.type, (declared.extra or {}).get("unit", unit))
    if isinstance(declared, inspect.UnionType):
        some = [part for part in declared.types if not isinstance(part, inspect.NoneType)]
        return join(_expected(part, unit) for part in some)
    if isinstance(declared, inspect.IntType | inspect.FloatType):
        whole = "a whole number" if isinstance(declared, inspect.IntType) else "a number"
        return (f"a {unit}" if unit else whole) + _bounds(declared, _BASE_UNITS.get(unit, ""))
    if isinstance(declared, inspect.StrType):
        longest = declared.max_length
        most = f" of at most {longest} characters" if longest is not None else ""
        like = f" like {declared.pattern}" if declared.pattern else ""
        return f"text{most}{like}"
    if isinstance(declared, inspect.CollectionType):
        return f"a list, each item {_expected(declared.item_type, unit)}"
    if isinstance(declared, inspect.StructType):
        keys = [f"{key.encode_name} ({_expected(key.type)})" for key in declared.fields]
        return f"a mapping of {join(keys)}"
    return join(_words(declared)) or "a value of another kind"


def _bounds(declared: inspect.IntType | inspect.FloatType, unit: str) -> str:
    if declared.ge is not None and declared.le is not None:
        return f" from {declared.ge} to {declared.le}{unit}"
    bounds = {
        "of at least": declared.ge,
        "above": declared.gt,
        "of at most": declared.le,
        "below": declared.lt,
    }
    said = [f" {word} {bound}{unit}" for word, bound in bounds.items() if bound is not None]
    return " and".join(said)


def _words(declared: inspect.Type) -> list[str]:
    """The words that an option can be, empty if it is no choice of words."""
    if isinstance(declared, inspect.Metadata):
        return _words(declared.type)
    if isinstance(declared, inspect.UnionType):
        return [word for part in declared.types for word in _words(part)]
    if isinstance(declared, inspect.LiteralType):
        return [str(value) for value in declared.values]
    if isinstance(declared, inspect.EnumType):
        return [str(member.value) for member in declared.cls]
    return ["true", "false"] if isinstance(declared, inspect.BoolType) else []
