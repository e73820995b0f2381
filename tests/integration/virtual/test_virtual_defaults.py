"""Time-outs that take minutes and hours by the real clock, at the defaults of Linux.

Source of the figures: Documentation/networking/ip-sysctl.rst, include/net/tcp.h (TCP_TIMEWAIT_LEN).
Long timers of the kernel are coarse: they go off up to an eighth late (kernel/time/timer.c).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Iterator

import pytest

from testbed import Lab, loads
from testbed.kernel.clock import clock_name

pytestmark = pytest.mark.skipif(
    clock_name() != "virtual", reason="is run by the virtual clock: make test-virtual"
)

PORT = 5000
COARSE = 1.125


@pytest.fixture
def lab() -> Iterator[Lab]:
    topology = loads("{name: x, nodes: {a: {}, b: {}}, links: [{endpoints: [a, b], delay: 10ms}]}")
    with Lab(topology) as running:
        yield running


@contextlib.contextmanager
def connection(lab: Lab) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection from a to b."""
    with lab["b"].listen(PORT) as listener, lab["a"].socket() as client:
        client.connect((lab["b"].address, PORT))
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def test_a_connect_gives_up_after_127_seconds(lab: Lab):
    lab["a"].set_sysctl("net.ipv4.tcp_syn_linear_timeouts", 0)
    lab["a"].ping("b")
    lab.link("a", "b").cut()
    with lab["a"].socket() as client:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.connect((lab["b"].address, PORT))
        assert 127 <= time.monotonic() - began < 127 * COARSE


def test_keepalive_gives_up_after_two_hours_and_nine_probes(lab: Lab):
    with connection(lab) as (client, _):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        lab.link("a", "b").cut()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert 7200 + 9 * 75 <= time.monotonic() - began < (7200 + 9 * 75) * COARSE


def test_a_port_is_free_again_after_a_minute_of_time_wait(lab: Lab):
    with connection(lab) as (client, accepted):
        own = client.getsockname()
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        accepted.close()
        assert client.recv(1) == b""
    ended = time.monotonic()
    while True:
        with lab["a"].socket() as again:
            try:
                again.bind(own)
                break
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
        time.sleep(0.1)
    assert 60 <= time.monotonic() - ended < 60 * COARSE


@pytest.mark.parametrize(("silence", "forgotten"), [(349, False), (351, True)])
def test_a_nat_forgets_after_350_seconds(silence: int, forgotten: bool):
    topology = loads("""
name: x
nodes:
  a:
  nat: {kind: middlebox, outside: b, functions: [{nat: {idle_timeout: 350s}}]}
  b:
links:
  - {endpoints: [a, nat], delay: 5ms}
  - {endpoints: [nat, b], delay: 5ms}
""")
    with Lab(topology) as lab, connection(lab) as (client, accepted):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
        time.sleep(silence)
        client.sendall(b"?")
        if forgotten:
            with pytest.raises(TimeoutError):
                client.recv(1)
        else:
            began = time.monotonic_ns()
            assert accepted.recv(1) == b"?"
            assert abs(time.monotonic_ns() - began - 10_000_000) < 20_000
