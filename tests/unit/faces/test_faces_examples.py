"""The files that the help of a command names as examples are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from testbed.cli.app import app

ROOT = Path(__file__).parents[3]


def epilogs(command) -> Iterator[str]:
    yield command.epilog or ""
    for inner in getattr(command, "commands", {}).values():
        yield from epilogs(inner)


NAMED = sorted(
    {
        name
        for text in epilogs(typer.main.get_command(app))
        for name in re.findall(r"(?<=\s)(?:examples|topologies|docs)/\S+", text)
    }
)


def test_the_help_of_commands_names_files():
    assert len(NAMED) > 2


@pytest.mark.parametrize("name", NAMED)
def test_a_file_in_an_example_exists(name):
    assert list(ROOT.glob(name))
