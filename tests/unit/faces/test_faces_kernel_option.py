from __future__ import annotations

from pathlib import Path

import pytest

from testbed.cli.kernel import files_named, without_options


@pytest.mark.parametrize(
    "words",
    [
        ["--kernel", "uml", "run", "docomo", "-p", "path=near"],
        ["--kernel=uml", "run", "docomo", "-p", "path=near"],
        ["--clock", "virtual", "--kernel=6.12", "--seed", "3", "run", "docomo", "-p", "path=near"],
        ["run", "docomo", "-p", "path=near"],
    ],
)
def test_the_command_goes_on_without_the_choice_of_a_kernel(words):
    assert without_options(words) == ["run", "docomo", "-p", "path=near"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "docomo"], []),
        (["run", "docomo", "--out", "here"], ["here"]),
        (["run", "docomo", "--out=here", "--json"], ["here"]),
        (["ladder", "a.pcap", "--svg", "x/l.svg"], ["x/l.svg"]),
        (["schema", "-o", "s.json"], ["s.json"]),
        (["run", "--out"], []),
    ],
)
def test_what_is_to_be_written_is_found_in_the_command_line(words, named):
    assert files_named(words) == [Path(name) for name in named]
