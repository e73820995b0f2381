"""The log of a real box: written without privileges, rotated, read back through the lab."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from middlebox_path import BOX, CLIENT, SERVER, needs_a_lab, path

from testbed.errors import LabError
from testbed.lab import Lab
from testbed.topology.model import Topology
from testbed.traffic import transfer

pytestmark = needs_a_lab


def logging_path(**options: object) -> Topology:
    whole = path(("trace-log", {"flags": ["all"], "size": 10_000, **options}))
    return msgspec.structs.replace(whole, captures=())


def change_often(lab: Lab, times: int) -> list[str]:
    """Change an option again and again; how the end of each line about it must read."""
    box = lab[BOX].function("trace-log")
    for number in range(times):
        box.set(match=f"config.*|{number:04}")
    return [f"config: set trace-log {{'match': 'config.*|{number:04}'}}" for number in range(times)]


def test_handshakes_and_commands_are_in_the_log_and_it_rotates(tmp_path: Path) -> None:
    with Lab(logging_path(files=2), captures=tmp_path / "run") as lab:
        transfer(lab[CLIENT], lab[SERVER], 10_000)
        opening = lab[BOX].log(last=100)
        events = [line.partition(" ")[2] for line in opening]
        assert events[0] == "init: box starts with trace-log"
        for wanted in ("interfaces: outside attached, mtu 1500", "handshake: SYN ACK", "FIN"):
            assert any(wanted in event for event in events), events
        told = change_often(lab, 500)
        recent = [line.partition(" ")[2] for line in lab[BOX].log(last=200)]
        assert recent == told[-200:]
        assert lab[BOX].log(last=1)[0].endswith(told[-1])
        assert lab[BOX].function("trace-log").counters().get("lines-lost", 0) == 0
        assert lab[BOX].counters().missing == 0
    files = {file.name: file.stat() for file in (tmp_path / "run" / f"{BOX}-log").iterdir()}
    assert files.keys() == {"serviced", "serviced.0", "serviced.1"}
    assert all(0 < file.st_size <= 10_000 for file in files.values())
    assert {stat.S_IMODE(file.st_mode) for file in files.values()} == {0o600}


def test_everybody_may_read_it_if_asked(tmp_path: Path) -> None:
    with Lab(logging_path(file="mine", world_readable=True), captures=tmp_path) as lab:
        change_often(lab, 200)
    files = list((tmp_path / f"{BOX}-log").iterdir())
    assert {file.name for file in files} >= {"mine", "mine.0"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o644}


def test_without_a_directory_it_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Lab(logging_path()) as lab:
        told = change_often(lab, 300)
        recent = [line.partition(" ")[2] for line in lab[BOX].log(last=250)]
        assert recent == told[-250:]
    assert list(tmp_path.iterdir()) == []


def test_a_box_without_the_function_has_no_log() -> None:
    with (
        Lab(msgspec.structs.replace(path(("options", {})), captures=())) as lab,
        pytest.raises(LabError, match="trace-log"),
    ):
        lab[BOX].log(last=3)
