"""Options of middlebox functions, checked against types that come from outside."""

from __future__ import annotations

from typing import Annotated, Literal

import jsonschema
import msgspec
import pytest

from testbed.errors import TopologyError
from testbed.topology.yaml.load import loads
from testbed.topology.yaml.schema import json_schema


class Clamp(msgspec.Struct, frozen=True, kw_only=True):
    size: int

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("13 is unlucky")


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    handshake_data: Literal["drop", "hold"] = "hold"
    timeout: Annotated[float, msgspec.Meta(gt=0, extra={"unit": "duration"})] = 30.0
    share: Annotated[float | None, msgspec.Meta(extra={"unit": "probability"})] = None
    mss: Annotated[int, msgspec.Meta(ge=64)] = 1460
    sack: bool = True
    scale: Annotated[int, msgspec.Meta(ge=0, le=14)] | Literal["mirror"] = "mirror"
    marks: tuple[Annotated[int, msgspec.Meta(lt=9)], ...] = ()
    rewrite: Clamp | None = None
    note: Annotated[str, msgspec.Meta(max_length=5)] | None = None
    file: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")] = "a"


class Options(msgspec.Struct, frozen=True):
    pass


FUNCTIONS: dict[str, type[msgspec.Struct]] = {"setup-proxy": Proxy, "clamp": Clamp, "bare": Options}


def text(function: str) -> str:
    return (
        "name: t\nnodes:\n  a:\n  b:\n  box:\n    kind: middlebox\n    outside: a\n    functions:\n"
        f"      - {function}\nlinks: [{{endpoints: [a, box]}}, {{endpoints: [box, b]}}]\n"
    )


def options(function: str) -> dict[str, object]:
    return loads(text(function), functions=FUNCTIONS).nodes["box"].functions[0].options


def test_options_are_kept_as_written_without_types() -> None:
    function = loads(text("whatever: {a: [1, {b: no}]}")).nodes["box"].functions[0]
    assert (function.name, function.options) == ("whatever", {"a": [1, {"b": "no"}]})


def test_bare_names_and_empty_options() -> None:
    assert options("bare") == options("bare: {}") == options("bare:") == {}


def test_quantities_are_in_base_units() -> None:
    given = options("setup-proxy: {timeout: 2min, share: 5%, mss: 1000, handshake_data: drop}")
    assert given == {"timeout": 120, "share": 0.05, "mss": 1000, "handshake_data": "drop"}


@pytest.mark.parametrize(
    ("function", "place", "says"),
    [
        ("setup-proxi", "functions[0]: ", "function 'setup-proxi'; did you mean 'setup-proxy'?"),
        ("xyz", "functions[0]: ", "there is bare, clamp or setup-proxy"),
        ("setup-proxy: {sak: true}", "setup-proxy.sak: ", "no option 'sak'; did you mean 'sack'?"),
        ("bare: {zzz: 1}", "bare.zzz: ", "it has none"),
        (
            "setup-proxy: {handshake_data: drp}",
            "setup-proxy.handshake_data: ",
            "expected drop or hold, got 'drp'; did you mean 'drop'?",
        ),
        ("setup-proxy: {handshake_data: [drop]}", "handshake_data: ", "expected drop or hold"),
        ("setup-proxy: {timeout: 30}", "setup-proxy.timeout: ", "unit is missing"),
        ("setup-proxy: {share: 5}", "setup-proxy.share: ", "write 5%"),
        (
            "setup-proxy: {mss: big}",
            "setup-proxy.mss: ",
            "expected a whole number of at least 64, got 'big'",
        ),
        ("setup-proxy: {mss: 5}", "setup-proxy.mss: ", "of at least 64, got the number 5"),
        ("setup-proxy: {timeout: 0s}", "setup-proxy.timeout: ", "a duration above 0 s, got '0s'"),
        ("setup-proxy: {share: {}}", "setup-proxy.share: ", "expected a probability"),
        (
            "setup-proxy: {scale: 15}",
            "setup-proxy.scale: ",
            "a whole number from 0 to 14 or mirror",
        ),
        ("setup-proxy: {marks: [1, x]}", "marks: ", "a list, each item a whole number below 9"),
        ("setup-proxy: {rewrite: {x: 1}}", "rewrite: ", "a mapping of size (a whole number)"),
        ("setup-proxy: {note: 1}", "setup-proxy.note: ", "text of at most 5 characters"),
        ("setup-proxy: {file: /x}", "setup-proxy.file: ", "expected text like ^[a-z]+$"),
        ("setup-proxy: {sack: yes}", "setup-proxy.sack: ", "expected true or false, got 'yes'"),
        ("clamp", "functions[0]", "the option 'size' of clamp is missing"),
        ("clamp: {size: 13}", "clamp: ", "13 is unlucky"),
        ("setup-proxy: [1]", "functions[0].setup-proxy: ", "expected a mapping"),
    ],
)
def test_wrong_options_are_refused(function: str, place: str, says: str) -> None:
    with pytest.raises(TopologyError) as caught:
        loads(text(function), "t.yaml", FUNCTIONS)
    (line,) = caught.value.problems
    assert line.startswith("t.yaml:9: nodes.box.functions[0]")
    assert place in line
    assert says in line


def test_two_functions_in_one_item_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"functions\[0\]: expected the name .* or one such"):
        loads(text("{bare: , clamp: }"))


def test_the_schema_describes_functions() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(FUNCTIONS))

    def valid(function: object) -> bool:
        box = {"kind": "middlebox", "functions": [function]}
        return validator.is_valid({"name": "t", "nodes": {"box": box}})

    assert valid("bare")
    assert valid({"bare": None})
    assert valid({"setup-proxy": {"timeout": "2min", "share": 0.5, "handshake_data": "drop"}})
    assert not valid("nothing")
    assert not valid({"setup-proxy": {"handshake_data": "drp"}})
    assert not valid({"setup-proxy": {"timeout": "2mn"}})
    assert not valid({"setup-proxy": {"sak": True}})
    assert not valid({"clamp": {}})
    assert not valid({"bare": {}, "clamp": {"size": 1}})
