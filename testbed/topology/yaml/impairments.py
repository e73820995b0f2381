"""From what is said of a link, in YAML or to a running lab, to fields of `Impairments`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology.impairments.bottleneck import TraceFile
from testbed.topology.impairments.declaration import Impairment
from testbed.topology.impairments.declared import DECLARED
from testbed.topology.model import Impairments, Match, RateTrace
from testbed.topology.problems import Problem
from testbed.topology.values.files import read_bounded
from testbed.topology.values.rate_trace import parse_rate_trace
from testbed.topology.yaml.document import tree_of
from testbed.topology.yaml.reading import INVALID, read
from testbed.wording import join, suggestion

MAX_TRACE_BYTES: Final = 32 << 20
_BY_NAME: Final[Mapping[str, Impairment]] = {one.name: one for one in DECLARED}
# Fields that are no keys take objects of the model only.
_BY_FIELD: Final[Mapping[str, Impairment]] = {
    field: one for one in DECLARED for field in one.fields
}
_UNIMPAIRED: Final = Impairments()


class TraceFolder:
    """Reads rate traces by their names relative to a folder, each file once.

    All of them together may have MAX_TRACE_BYTES.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._left = MAX_TRACE_BYTES
        self._known: dict[str, RateTrace] = {}

    def read(self, name: str) -> RateTrace:
        """Raises InvalidValue, with the line where it is one line that is at fault."""
        if name not in self._known:
            self._known[name] = parse_rate_trace(self._text(name), str(self.folder / name))
        return self._known[name]

    def _text(self, name: str) -> str:
        limit = f"all rate traces of a topology together may have {MAX_TRACE_BYTES >> 20} MiB"
        data = read_bounded(self.folder / name, self._left, limit)
        self._left -= len(data)
        return data.decode("ascii", errors="replace")


def fields_of(
    values: Mapping[str, Any], traces: TraceFolder, problems: list[Problem]
) -> dict[str, Any]:
    """Fields of `Impairments` from the values of YAML keys; other keys are passed over.

    What cannot be read is left out and noted in `problems`, under the path of its key.
    """
    fields: dict[str, Any] = {}
    for name in values.keys() & _BY_NAME.keys():
        try:
            fields |= _fields(_BY_NAME[name], values[name], traces)
        except InvalidValue as error:
            problems.append(Problem((name, "trace"), str(error)))
    return fields


def _fields(declared: Impairment, value: Any, traces: TraceFolder) -> dict[str, Any]:
    """The value in the field that takes its type, and the defaults of the others.

    Raises InvalidValue for a rate trace that cannot be read, and for a rule with one.
    """
    if isinstance(value, TraceFile):
        value = traces.read(value.trace)
    if isinstance(value, list | tuple):
        value = tuple(
            _match(one, traces) if isinstance(one, dict) else one
            for one in value
            if one is not INVALID
        )
    fields = {field: getattr(_UNIMPAIRED, field) for field in declared.fields}
    chosen = next((field for field in fields if _takes(declared.fields[field], value)), None)
    return fields | {chosen or declared.name: value}


def _match(given: Mapping[str, Any], traces: TraceFolder) -> Match:
    faults: list[Problem] = []
    fields = fields_of(given, traces, faults)
    if faults:
        raise InvalidValue("; ".join(str(fault) for fault in faults))
    to, source = (
        tuple(one for one in given.get(key, ()) if one is not INVALID) for key in ("to", "from")
    )
    return Match(
        to=to,
        source=source,
        protocol=given.get("protocol"),
        port=given.get("port"),
        impairments=Impairments(**fields),
    )


def _takes(types: tuple[type, ...], value: object) -> bool:
    """Whether it is an object of one of these types, or a sequence of such."""
    if isinstance(value, list | tuple) and value:
        return all(isinstance(one, types) for one in value)
    return isinstance(value, types)


def parse_changes(changes: Mapping[str, object]) -> dict[str, Any]:
    """Fields of `Impairments` from keyword arguments such as `delay="50ms"`.

    Names are the keys of YAML, or `rate_trace` and `loss_model`, which take objects only.

    Each value is as in YAML (text, or a mapping or list of such), or an object of the model, or
    a number in seconds, bit/s or as a probability. None takes away a rate, jitter, duplication,
    reordering or corruption. Raises InvalidValue that names the impairment.
    """
    objects = {
        name: value
        for name, value in changes.items()
        if name not in _BY_NAME and _is_object(name, value)
    }
    values = {
        name: _parse_change(name, value) for name, value in changes.items() if name not in objects
    }
    problems: list[Problem] = []
    fields = fields_of(values, TraceFolder(Path()), problems) | objects
    if problems:
        raise InvalidValue("; ".join(map(str, problems)))
    return fields


def _is_object(name: str, value: object) -> bool:
    """Whether it is what the field of this name holds."""
    if name not in _BY_FIELD:
        return False
    if value is None:
        return getattr(_UNIMPAIRED, name) is None
    return _takes(_BY_FIELD[name].fields[name], value)


def _parse_change(name: str, value: object) -> Any:
    if name not in _BY_NAME:
        near = suggestion(name, _BY_NAME) or f"; there are {join(_BY_NAME, 'and')}"
        raise InvalidValue(f"there is no impairment {name!r}{near}")
    declared = _BY_NAME[name]
    structs = (field for field, types in declared.fields.items() if not {float, int} & {*types})
    if any(_takes(declared.fields[field], value) for field in structs):
        return value
    if value is None and getattr(_UNIMPAIRED, name) is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and declared.number:
        return declared.number(float(value))  # the emulator refuses impossible ones
    problems: list[Problem] = []
    found = read(declared.key.shape, tree_of(value), problems)
    if problems:
        told = "; ".join(str(Problem((name, *path), text)) for path, text in problems)
        raise InvalidValue(told)
    return found
