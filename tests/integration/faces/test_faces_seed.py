"""`--seed` decides which packets the links lose, whichever face starts the lab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.kernel.processes.userns import needed
from testbed.kernel.seeds import SEED_VARIABLE
from testbed.kernel.uml import boot
from testbed.kernel.uml.store import built_kernels

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")

TOPOLOGY = """
name: lossy
emulator: userspace
seed: 5
nodes: {a: {}, b: {}}
links:
  - endpoints: [a, b]
    forward: {loss: 30%}
"""
SENDING = """
import socket

def arrived(lab):
    receiver = lab["b"].socket(kind=socket.SOCK_DGRAM)
    receiver.bind((lab["b"].address, 4000))
    sender = lab["a"].socket(kind=socket.SOCK_DGRAM)
    for number in range(100):
        sender.sendto(bytes([number]), receiver.getsockname())
    lab.link("a", "b").set(loss=0)
    sender.sendto(b"end", receiver.getsockname())
    return list(iter(lambda: receiver.recv(10), b"end"))
"""
SCRIPT = f"""{SENDING}
from testbed import Lab
with Lab("lossy") as lab:
    print("arrived", b"".join(arrived(lab)).hex())
"""
TEST = f"""{SENDING}
import pytest
@pytest.mark.topology("lossy")
def test_it(lab):
    print("arrived", b"".join(arrived(lab)).hex())
"""
_HAS_VIRTUAL_CLOCK = not boot.inside() and any(one.current for one in built_kernels())
_BY_VIRTUAL_CLOCK = pytest.mark.skipif(
    not _HAS_VIRTUAL_CLOCK, reason="needs a kernel of `testbed kernel build`"
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs `python -m ...` beside the topology; returns the line that tells what arrived."""
    (tmp_path / "topologies").mkdir()
    (tmp_path / "topologies" / "lossy.yaml").write_text(TOPOLOGY)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if name != SEED_VARIABLE}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

    def arrived(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (line,) = (one for one in done.stdout.splitlines() if "arrived " in one)
        return line[line.index("arrived ") :]

    return arrived


@pytest.mark.parametrize("clock", ["real", pytest.param("virtual", marks=_BY_VIRTUAL_CLOCK)])
@pytest.mark.parametrize("face", ["exec", "pytest"])
def test_the_seed_decides_what_is_lost(run: Callable[..., str], face: str, clock: str) -> None:
    def told(seed: int) -> str:
        if face == "exec":
            return run("testbed", "exec", f"--clock={clock}", f"--seed={seed}", "script.py")
        plugin = ("-p", "testbed.pytest_plugin", "-p", "no:cacheprovider", "-s")
        return run("pytest", *plugin, f"--testbed-clock={clock}", f"--testbed-seed={seed}")

    first, second, again = told(1), told(2), told(1)
    assert 100 < len(first) < 200
    assert first == again
    assert first != second


def test_without_a_seed_the_topology_decides_alone(run: Callable[..., str]) -> None:
    plain = run("testbed", "exec", "--clock=real", "script.py")
    assert plain == run("testbed", "exec", "--clock=real", "script.py")
    assert plain != run("testbed", "exec", "--clock=real", "--seed=1", "script.py")
