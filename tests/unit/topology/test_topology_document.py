"""YAML text: lines, the YAML 1.2 core schema, and limits that hostile text meets."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import yaml

from testbed.errors import TopologyError
from testbed.topology.yaml import document
from testbed.topology.yaml.document import MAX_BYTES, MappingNode, parse, plain, read_text


def refused(text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        parse(text, "t.yaml")
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("t.yaml")
    return caught.value.problems[0]


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    text = "[no, on, yes, 1:30, 0x10, 0o17, 010, 1e3, .5, true, ~, null, 'true', \"1\", 1_000]"
    expected = ["no", "on", "yes", "1:30", 16, 15, 10, 1000.0, 0.5, True, None, None, "true", "1"]
    assert plain(parse(text, "t")) == [*expected, "1_000"]


def test_not_numbers() -> None:
    nan, inf, minus = plain(parse("[.nan, .inf, -.INF]", "t"))
    assert math.isnan(nan)
    assert (inf, minus) == (math.inf, -math.inf)


def test_keys_and_items_know_their_lines() -> None:
    tree = parse("a:\n  - 1\n  - b: 2\nc:\n\n  d\n", "t")
    assert isinstance(tree, MappingNode)
    line, items = tree.entries["a"]
    assert line == 1
    assert [item.line for item in items.items] == [2, 3]
    assert tree.entries["c"][0] == 4


def test_repeated_keys_are_noted_with_both_lines() -> None:
    tree = parse("a: 1\nb: 2\na: 3\n", "t")
    assert isinstance(tree, MappingNode)
    assert tree.repeated == [(3, "a")]
    assert plain(tree) == {"a": 1, "b": 2}


def test_aliases_repeat_what_was_anchored() -> None:
    assert plain(parse("a: &x {b: [1]}\nc: *x\n", "t")) == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("~", "is empty"),
        ("a: b: c", ":1: not valid YAML: "),
        ("a: 1\n\tb: 2", ":2: not valid YAML"),
        ("a: [1, 2", "not valid YAML"),
        ('a: "\\ud800"', "not valid YAML"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ("a: 1\n---\nb: 2", ":2: a second document"),
        ("a: *x", "alias *x names no finished anchor"),
        ("a: &x [*x]", "alias *x names no finished anchor"),
        ("a: &x 1\nb: &x [*x]", ":2: alias *x names no finished anchor"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!int '3'", "is not allowed; remove it"),
        ("a: &x {b: 1}\nc: {<<: *x}", ":2: merge keys (<<) are not supported"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: 1\nb: \x07", ":2: character '\\x07' is not allowed"),
        ("a: \udc80", "is not allowed"),
        ("a\x00b: 1", "is not allowed"),
    ],
)
def test_what_is_no_reasonable_yaml_is_refused(text: str, says: str) -> None:
    assert says in refused(text)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TALL = "a: &n0 [x]\n" + "".join(f"b{i}: &n{i + 1} [*n{i}]\n" for i in range(60))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "more than 200000 values"),
        (TALL, "levels deep"),
        ("[" * 500_000, "levels deep"),
        ("- " * 400_000, "levels deep"),
        ("{a: " * 200_000, "levels deep"),
        ("- x\n" * 250_000, "more than 200000 values"),
        ("a: " + "x" * MAX_BYTES, "larger than 1 MiB"),
    ],
    ids=["bomb", "tall", "brackets", "dashes", "braces", "many", "huge"],
)
def test_hostile_text_is_refused_soon(text: str, says: str) -> None:
    start = time.process_time()
    assert says in refused(text)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        ("[" * 25, True),
        ('["]", ' * 25, True),
        ("a: it's [" + "{a: " * 24, True),
        ("[" * 24, False),
        ("[1], " * 30, False),
        ('"' + "[" * 30 + '"', False),
        ("['it''s [[[[[[[[[[', \"\\\" [[[[[[[[[[[[[[\"", False),
    ],
)
def test_depth_is_told_in_our_words_whatever_the_parser_refuses_first(
    text: str, deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise yaml.YAMLError("enough")

    monkeypatch.setattr(yaml, "parse", refuse)
    assert refused(text).endswith("levels deep" if deep else "not valid YAML: enough")


@pytest.mark.parametrize("loader", ["SafeLoader", "CSafeLoader"])
@pytest.mark.parametrize("text", ["[" * 5_000, "{a: " * 5_000, "- " * 5_000, "? " * 5_000])
def test_depth_is_told_in_our_words_with_either_parser(
    text: str, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_Loader", getattr(yaml, loader))
    assert "levels deep" in refused(text)


def test_a_file_is_named_in_its_problems(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.yaml"
    with pytest.raises(TopologyError, match=r"nothing\.yaml: cannot be read: No such file"):
        read_text(missing)
    with pytest.raises(TopologyError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(TopologyError, match="cannot be read"):
        read_text(Path("a\0b"))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: a\ndescription: caf\xe9\n")
    with pytest.raises(TopologyError, match=r"latin\.yaml:2: the file is not UTF-8 text"):
        read_text(latin)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(TopologyError, match="larger than 1 MiB"):
        read_text(huge)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert plain(parse(read_text(file), "t")) == {"name": "a"}
