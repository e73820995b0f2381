"""What the author of a function gets from `testbed.middlebox`."""

from __future__ import annotations

import subprocess
import sys

import testbed.middlebox

NAMES = (
    "ABSORB EVICTED HOLD IDLE INSIDE LINGER LINGERED OUTSIDE PASS"
    " Box Count Direction Duration Flow FlowTable Function NoOptions Packet Phase Side"
    " TcpFlow TcpState TcpTable Timer Verdict"
    " drop function sides_of tcp_phases"
)


def test_the_face_has_these_names_and_no_others():
    assert testbed.middlebox.__all__ == NAMES.split()
    for name in NAMES.split():
        assert getattr(testbed.middlebox, name) is not None
    assert callable(testbed.middlebox.function("x")), "the decorator, not the module"


def test_the_face_loads_neither_functions_nor_what_is_slow():
    code = "import sys, testbed.middlebox; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(ran.stdout.split())
    assert "testbed.middlebox.function" in loaded
    assert not loaded & {"importlib.metadata", "re2", "pyroute2", "testbed.middlebox.functions"}
