"""What a program in a node takes for its machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from lab_topologies import pair

from testbed.lab import Lab


@pytest.fixture(scope="module")
def lab():
    with Lab(pair()) as running:
        for name in ("a", "b"):  # the first program brings what stays until the end
            running[name].run(["true"])
        yield running


def test_names_of_nodes_are_known(lab):
    node = lab["a"]
    for database, wanted in (("ahostsv4", lab["b"].address), ("ahostsv6", lab["b"].address6)):
        assert node.run(["getent", database, "b"]).stdout.split()[0] == wanted
    assert node.run(["getent", "hosts", "localhost"]).status == 0
    assert node.run(["ping", "-c1", "-W5", "b"]).status == 0


def test_no_resolver_of_the_host_is_asked(lab):
    node = lab["a"]
    assert "nameserver" not in node.run(["cat", "/etc/resolv.conf"]).stdout
    assert node.run(["getent", "hosts", "example.org"], check=False, timeout=30).status != 0


def test_the_machine_is_the_node(lab):
    host = socket.gethostname()
    for name in ("a", "b"):
        assert lab[name].run(["hostname"]).stdout == f"{name}\n"
        assert lab[name].run(["sh", "-c", "ls /sys/class/net"]).stdout.split() == ["eth0", "lo"]
    assert socket.gethostname() == host
    assert "eth0 " not in Path("/etc/hosts").read_text()


def test_processes_are_those_of_the_node(lab):
    sleeps = {name: lab[name].start(["sleep", "60"]) for name in ("a", "b")}
    shown = lab["a"].run(["ps", "-eo", "comm"]).stdout.split()
    assert shown == ["COMMAND", "node-init", "sleep", "ps"]
    lab["a"].run(["pkill", "-x", "sleep"])
    assert sleeps["a"].wait(30) == -signal.SIGTERM
    assert sleeps["b"].running
    sleeps["b"].stop()


def test_own_numbers_agree_with_proc(lab):
    script = "readlink /proc/self/ns/pid > /dev/null && cat /proc/$$/comm"
    assert lab["a"].run(["sh", "-c", script]).stdout == "sh\n"


def test_orphans_are_collected(lab):
    lab["a"].run(["sh", "-c", "for i in 1 2 3 4; do setsid -f true; done"])
    deadline = time.monotonic() + 30
    while "Z" in lab["a"].run(["ps", "-eo", "state"]).stdout:
        assert time.monotonic() < deadline


def test_the_working_directory_is_ours(lab, tmp_path, monkeypatch):
    assert lab["a"].run(["pwd", "-P"]).stdout.strip() == os.path.realpath(Path.cwd())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "script").chmod(0o755)
    assert lab["a"].run(["./script"]).stdout == "here\n"
    lab["a"].run(["touch", "made"])
    assert (tmp_path / "made").exists()


def test_nodes_that_run_nothing_cost_nothing():
    with Lab(pair()) as lab:
        assert lab._runtime.group._of_nodes == {}
        lab["a"].run(["true"])
        assert list(lab._runtime.group._of_nodes) == ["a"]
