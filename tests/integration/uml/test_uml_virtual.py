"""Commands by the virtual clock, inside a kernel that `testbed kernel build` has made."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import time

import pytest

from testbed.kernel.uml import boot as uml
from testbed.kernel.uml.store import built_kernels

pytestmark = pytest.mark.skipif(
    uml.inside() or not any(kernel.current for kernel in built_kernels()),
    reason="needs a kernel of `testbed kernel build`, and a kernel around it",
)


def run(*words: str, seed: int = 1, options: tuple[str, ...] = ()):
    return subprocess.run(
        [
            *(sys.executable, "-m", "testbed.kernel.uml", "--clock", "virtual"),
            *("--seed", str(seed), *options, "--", *words),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


RANDOM_THINGS = """
import os, socket, time
from testbed.kernel.clock import clock_name
print(clock_name(), time.time_ns(), os.urandom(8).hex(), hash("text"), id(os))
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1])
    for _ in range(5):
        with socket.create_connection(server.getsockname()) as client:
            print(client.getsockname()[1])
"""


def random_things(seed: int) -> str:
    done = run(sys.executable, "-c", RANDOM_THINGS, seed=seed)
    assert done.stdout.startswith("virtual 1700000000"), done.stderr
    return done.stdout


def test_an_hour_passes_at_once_and_exactly():
    began = time.monotonic()
    program = (
        "import time; t = time.monotonic_ns(); time.sleep(3600); print(time.monotonic_ns() - t)"
    )
    slept = int(run(sys.executable, "-I", "-S", "-c", program).stdout)
    assert 0 <= slept - 3600 * 10**9 < 1_000
    assert time.monotonic() - began < 60


def test_the_same_seed_makes_the_same_randomness_and_another_seed_another():
    first = random_things(7)
    assert random_things(7) == first
    assert random_things(8) != first


def test_what_is_random_does_not_depend_on_what_python_has_compiled(tmp_path):
    module = tmp_path / "helper.py"
    module.write_text("import os\nprint(os.urandom(8).hex())\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import helper"
    before = run(sys.executable, "-c", script)
    py_compile.compile(str(module))
    after = run(sys.executable, "-c", script)
    assert before.stdout == after.stdout and len(before.stdout) == 17, before.stderr


def test_a_silent_command_shows_its_stacks_and_is_ended():
    program = "def busy():\n while True: pass\nbusy()"
    done = run(sys.executable, "-c", program, options=("--patience", "5"))
    assert done.returncode != 0
    assert "in busy" in done.stderr
    assert "nothing was heard of it for 5 s of real time" in done.stderr


def test_everything_runs_on_one_processor_of_the_host():
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "testbed.kernel.uml", "--clock", "virtual", "--"),
            *("bash", "-c", "echo up; while true; do :; done"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "up\n"
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        )
        (kernel,) = map(int, children.stdout.split())
        assert len(os.sched_getaffinity(kernel)) == 1
        process.terminate()
