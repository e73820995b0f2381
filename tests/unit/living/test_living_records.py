"""Records of labs: a name is one process's as long as that lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from testbed.errors import LabError
from testbed.living import client
from testbed.living.client import LabClient
from testbed.living.records import (
    LabRecord,
    claim_name,
    find_lab,
    running_labs,
    runtime_folder,
)

HOLDER = """
import sys
from testbed.living.records import claim_name
claimed = claim_name(sys.argv[1], "pair.yaml")
claimed.record.socket.touch()
claimed.record.log.touch()
print(flush=True)
sys.stdin.read()
claimed.give_up()
"""


@pytest.fixture(autouse=True)
def _runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def holder(name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    return process


def files() -> set[str]:
    return {path.name for path in runtime_folder().iterdir()}


def test_a_lab_is_found_until_its_holder_gives_it_up():
    with holder("pair") as process:
        record = find_lab("pair")
        assert (record.pid, record.source) == (process.pid, "pair.yaml")
        assert running_labs() == {"pair": record}
        assert files() == {"pair.json", "pair.sock", "pair.log"}
        process.communicate()
    assert running_labs() == {} and files() == set()
    with pytest.raises(LabError, match=r"There is no lab 'pair'\. None is running"):
        find_lab("pair")


def test_a_name_is_taken_as_long_as_its_holder_lives():
    with holder("pair") as process:
        with pytest.raises(LabError, match=f"of pair.yaml, held by process {process.pid}"):
            claim_name("pair", "other.yaml")
        process.communicate()
    claim_name("pair", "other.yaml").give_up()


def test_what_a_killed_holder_leaves_is_told_once_and_removed():
    with holder("pair") as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert files() == {"pair.json", "pair.sock", "pair.log"}
    with pytest.raises(LabError, match=rf"\(process {process.pid}\) was killed.*up pair\.yaml"):
        find_lab("pair")
    assert files() == set()


def test_the_name_of_a_killed_holder_is_free():
    with holder("pair") as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    claimed = claim_name("pair", "other.yaml")
    assert find_lab("pair") == claimed.record
    assert files() == {"pair.json"}
    claimed.give_up()


def test_only_one_of_many_gets_a_name():
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, "pair"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    # A line from the one that has it, the end of file from the others.
    lines = [racer.stdout.readline() for racer in racers if racer.stdout is not None]
    assert sorted(lines) == [b"", b"", b"", b"\n"]
    said = [racer.communicate()[1] for racer in racers]
    assert sum(b"is running already" in words for words in said) == 3


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "a" * 64, "a\n"])
def test_a_name_that_is_none_is_refused_and_not_found(name):
    with pytest.raises(LabError, match="cannot be called so"):
        claim_name(name, "pair.yaml")
    with pytest.raises(LabError, match="There is no lab"):
        find_lab(name)


def test_a_folder_that_others_can_look_into_is_refused(tmp_path):
    (tmp_path / "testbed").mkdir(mode=0o755)
    with pytest.raises(LabError, match="must be this user's alone"):
        runtime_folder()


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "testbed").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabError, match="must be this user's alone"):
        runtime_folder()


@pytest.mark.parametrize("kind", ["a file", "a link to nothing"])
def test_what_is_no_folder_in_its_place_is_refused(tmp_path, kind):
    place = tmp_path / "testbed"
    if kind == "a file":
        place.touch(mode=0o600)
    else:
        place.symlink_to(tmp_path / "nothing")
    with pytest.raises(LabError, match="must be this user's alone"):
        runtime_folder()
    assert not (tmp_path / "nothing").exists()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(LabError, match="too long for a socket"):
        claim_name("pair", "pair.yaml")


def test_somebody_else_s_runtime_directory_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 12345)
    with pytest.raises(LabError, match=f"/tmp/testbed-{os.geteuid() + 12345}"):
        runtime_folder()
    Path(f"/tmp/testbed-{os.geteuid() + 12345}").rmdir()


def test_a_holder_that_does_not_answer_is_ended_too(monkeypatch):
    """All its connections may be taken, by somebody who never asks anything."""
    monkeypatch.setattr(client, "_LAST_ANSWERS_SECONDS", 0.1)
    words = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); print(); "
    record = LabRecord(name="deaf", pid=os.getpid(), source="pair.yaml", began=0.0)
    with subprocess.Popen(
        [sys.executable, "-uc", words + "input()", record.socket],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"\n"
        assert LabClient(msgspec.structs.replace(record, pid=holder.pid)).end()
    assert holder.returncode == -signal.SIGTERM
