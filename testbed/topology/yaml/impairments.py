"""From what is said of a link, in YAML or to a running lab, to fields of `Impairments`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology.model import (
    Chance,
    Corrupt,
    DropRule,
    FourState,
    GilbertElliott,
    Jitter,
    Queue,
    RateTrace,
    Reorder,
)
from testbed.topology.problems import Problem
from testbed.topology.values.files import read_bounded
from testbed.topology.values.rate_trace import parse_rate_trace
from testbed.topology.values.shapes import Key
from testbed.topology.wording import join, suggestion
from testbed.topology.yaml.document import tree_of
from testbed.topology.yaml.link_grammar import IMPAIRMENTS, TraceFile
from testbed.topology.yaml.reading import INVALID, read

MAX_TRACE_BYTES: Final = 32 << 20
_KEYS: Final[Mapping[str, Key]] = {key.name: key for key in IMPAIRMENTS}
_BASE_UNITS: Final = ("rate", "delay", "loss")
_MODELS: Final[Mapping[str, tuple[type, ...]]] = {
    "rate": (RateTrace,),
    "queue": (Queue,),
    "jitter": (Jitter,),
    "loss": (GilbertElliott, FourState),
    "drop": (DropRule,),
    "duplicate": (Chance,),
    "reorder": (Reorder,),
    "corrupt": (Corrupt,),
}
_OBJECTS: Final = {"rate_trace": _MODELS["rate"], "loss_model": _MODELS["loss"]}
_REMOVABLE: Final = ("rate", "jitter", "duplicate", "reorder", "corrupt")


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
    fields = {name: values[name] for name in _KEYS if name in values}
    if "rate" in fields:
        try:
            fields |= _rate_fields(fields["rate"], traces)
        except InvalidValue as error:
            del fields["rate"]
            problems.append(Problem(("rate", "trace"), str(error)))
    if "loss" in fields:
        loss = fields["loss"]
        plain = isinstance(loss, float)
        fields |= {"loss": loss if plain else 0.0, "loss_model": None if plain else loss}
    if "drop" in fields:
        fields["drop"] = tuple(rule for rule in fields["drop"] if rule is not INVALID)
    return fields


def _is_of_model(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether it is an object of one of these kinds, or, for drop rules, a list of such."""
    if kinds == (DropRule,) and isinstance(value, list | tuple) and value:
        return all(isinstance(rule, DropRule) for rule in value)
    return isinstance(value, kinds) and kinds != (DropRule,)


def _rate_fields(rate: Any, traces: TraceFolder) -> dict[str, Any]:
    if isinstance(rate, TraceFile):
        return {"rate": None, "rate_trace": traces.read(rate.trace)}
    if isinstance(rate, RateTrace):
        return {"rate": None, "rate_trace": rate}
    return {"rate": rate, "rate_trace": None}


def parse_changes(changes: Mapping[str, object]) -> dict[str, Any]:
    """Fields of `Impairments` from keyword arguments such as `delay="50ms"`.

    Names are the keys of YAML, or `rate_trace` and `loss_model`, which take objects only.

    Each value is as in YAML (text, or a mapping or list of such), or an object of the model, or
    a number in seconds, bit/s or as a probability. None takes away a rate, jitter, duplication,
    reordering or corruption. Raises InvalidValue that names the impairment.
    """
    values = {name: _parse_change(name, value) for name, value in changes.items()}
    objects = {name: values.pop(name) for name in _OBJECTS if name in values}
    problems: list[Problem] = []
    fields = fields_of(values, TraceFolder(Path()), problems) | objects
    if problems:
        raise InvalidValue("; ".join(map(str, problems)))
    return fields


def _parse_change(name: str, value: object) -> Any:
    if name in _OBJECTS and (value is None or isinstance(value, _OBJECTS[name])):
        return value
    if name not in _KEYS:
        near = suggestion(name, _KEYS) or f"; there are {join(_KEYS, 'and')}"
        raise InvalidValue(f"there is no impairment {name!r}{near}")
    if _is_of_model(value, _MODELS.get(name, ())):
        return value
    if value is None and name in _REMOVABLE:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in _BASE_UNITS:
            return float(value)  # the emulator refuses impossible ones
        if name == "jitter" and value:
            return Jitter(spread=float(value))
    problems: list[Problem] = []
    found = read(_KEYS[name].shape, tree_of(value), problems)
    if problems:
        told = "; ".join(str(Problem((name, *path), text)) for path, text in problems)
        raise InvalidValue(told)
    return found
