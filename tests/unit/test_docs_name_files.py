"""The walks in docs/design.md lead through files that are there, each room entered once."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

import testbed

ROOT = Path(testbed.__file__).parent
DESIGN = ROOT.parent / "docs" / "design.md"
WALKS = ["A delay, from YAML to the packet", "A packet through a middlebox function"]


def files_of(section: str) -> list[str]:
    text = DESIGN.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"\*\*([a-z_/]+\.py)\*\*", text)


@pytest.mark.parametrize("section", WALKS)
def test_every_file_on_the_way_is_there(section: str) -> None:
    files = files_of(section)
    assert len(files) >= 7
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_delay_enters_no_room_twice() -> None:
    rooms = [file.rpartition("/")[0] for file in files_of(WALKS[0])]
    entered = [room for room, _ in groupby(room for room in rooms if room != "emulator/netem")]
    assert len(entered) == len(set(entered))
