"""The firewall between real Linux endpoints: what an application learns of a refusal."""

from __future__ import annotations

import errno
import socket
import time

import msgspec
import pytest
from middlebox_path import BOX, CLIENT, SERVER, needs_a_lab, path

from testbed.lab import Lab
from testbed.middlebox.client import FunctionHandle
from testbed.traffic import Responder, transfer

pytestmark = needs_a_lab

_PATIENCE_MS = 600


def _await_open(firewall: FunctionHandle, count: int) -> None:
    """Ask until it knows so many connections; each question takes a turn of its loop."""
    deadline = time.monotonic() + 30
    while firewall.counters()["now-open"] != count:
        assert time.monotonic() < deadline


def _idle_then_speak(lab: Lab, family: int) -> int:
    """Open a connection, let the firewall forget it, say something; the error, 0 for none."""
    server = lab[SERVER].address6 if family == 6 else lab[SERVER].address
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with lab[SERVER].listen(address=server) as listener, lab[CLIENT].socket(kind) as sock:
        sock.settimeout(10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PATIENCE_MS)
        sock.connect((server, listener.getsockname()[1]))
        firewall = lab[BOX].function("firewall")
        _await_open(firewall, 1)
        firewall.set(idle_timeout=0.001)  # whoever was silent for so long is forgotten
        _await_open(firewall, 0)
        sock.sendall(b"still there?")
        try:
            return 0 if sock.recv(1) else -1
        except OSError as error:
            return error.errno or 0


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("reject", "expected"),
    [
        ("reset", {errno.ECONNRESET}),
        ("icmp", {errno.EHOSTUNREACH, errno.EACCES}),
        ("silent", {errno.ETIMEDOUT}),
    ],
)
def test_an_application_learns_that_it_was_forgotten(reject, expected, family):
    topology = msgspec.structs.replace(path(("firewall", {"reject": reject})), captures=())
    with Lab(topology) as lab:
        assert _idle_then_speak(lab, family) in expected
        counters = lab[BOX].counters()
    assert counters.missing == 0 and counters.dropped["no-connection"] >= 1


@pytest.mark.parametrize(
    ("reject", "expected"),
    [("reset", errno.ECONNREFUSED), ("icmp", errno.EHOSTUNREACH)],
)
def test_a_refused_connection_fails_at_once(reject, expected):
    options = {"allow": "outward", "reject": reject}
    with (
        Lab(msgspec.structs.replace(path(("firewall", options)), captures=())) as lab,
        Responder(lab[SERVER]) as responder,
        lab[CLIENT].socket() as sock,
    ):
        sock.settimeout(10)
        assert sock.connect_ex((responder.address, responder.port)) == expected
        # The other way round it is allowed.
        assert transfer(lab[SERVER], lab[CLIENT], 100_000).size == 100_000
