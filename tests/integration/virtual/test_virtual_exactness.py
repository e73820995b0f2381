"""By the virtual clock links are exact to a microsecond, whichever emulator makes them."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from testbed import Lab, loads
from testbed.kernel.clock import clock_name

pytestmark = pytest.mark.skipif(
    clock_name() != "virtual", reason="is run by the virtual clock: make test-virtual"
)

PORT = 5000
SO_TIMESTAMPNS = 35
MS = 1_000_000
EXACT = 1_000  # ns
FRAME = 1500  # bytes on the wire: a datagram of 1458 bytes in IPv4 over Ethernet
PAYLOAD = FRAME - 42


@pytest.fixture(params=["netem", "userspace"])
def emulator(request: pytest.FixtureRequest) -> str:
    return request.param


@contextlib.contextmanager
def running(emulator: str, impairments: str) -> Iterator[Lab]:
    """A link from a to b."""
    topology = loads(
        f"{{name: x, emulator: {emulator}, nodes: {{a: {{}}, b: {{}}}},"
        f" links: [{{endpoints: [a, b], {impairments}}}]}}"
    )
    with Lab(topology) as lab:
        lab["a"].ping("b")  # neighbours are known from now on
        yield lab


def journeys(lab: Lab, count: int, gap: float = 0.0, size: int = PAYLOAD) -> list[tuple[int, int]]:
    """When datagrams were sent, one every `gap` seconds, and when those that came were there."""
    found = []
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.bind((lab["b"].address, PORT))
        sender.connect((lab["b"].address, PORT))
        for _ in range(count):
            sender.send(struct.pack("!Q", time.time_ns()) + bytes(size - 8))
            if gap:
                time.sleep(gap)
        receiver.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while True:
                data, ancillary, _, _ = receiver.recvmsg(4096, 100)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                found.append((struct.unpack_from("!Q", data)[0], seconds * 1000 * MS + nanoseconds))
    return found


@pytest.mark.parametrize("delay", [1, 10, 250])
def test_a_delay_is_exact(emulator: str, delay: int):
    with running(emulator, f"delay: {delay}ms") as lab:
        found = journeys(lab, 20, gap=0.003)
    assert len(found) == 20
    assert all(0 <= arrived - sent - delay * MS < EXACT for sent, arrived in found)


@pytest.mark.parametrize("rate", [1, 10, 100])
def test_a_rate_is_exact_for_every_packet(emulator: str, rate: int):
    with running(emulator, f"delay: 5ms, rate: {rate}mbit, queue: {{limit: 100 packets}}") as lab:
        found = journeys(lab, 50)
    each = FRAME * 8000 // rate
    assert len(found) == 50
    for number, (_, arrived) in enumerate(found, 1):
        assert abs(arrived - found[0][0] - 5 * MS - number * each) < EXACT
    assert all(abs(after - before - each) < EXACT for (_, before), (_, after) in pairwise(found))


def test_a_queue_holds_exactly_its_limit(emulator: str):
    with running(emulator, "rate: 1mbit, queue: {limit: 10 packets}") as lab:
        found = journeys(lab, 50)
    assert len(found) == 11  # ten that wait, and the one that is being sent


def test_emulators_do_the_same(emulator: str, request: pytest.FixtureRequest):
    cache = request.config.stash.setdefault(_DONE, {})
    with running(emulator, "delay: 7ms, rate: 3mbit, queue: {limit: 20 packets}") as lab:
        found = journeys(lab, 60, gap=0.003)
    cache[emulator] = [arrived - found[0][0] for _, arrived in found]
    if len(cache) == 2:
        one, other = cache.values()
        assert len(one) == len(other)
        assert all(abs(a - b) < EXACT for a, b in zip(one, other, strict=True))


_DONE: pytest.StashKey[dict[str, list[int]]] = pytest.StashKey()


def test_a_sleep_has_no_slack():
    began = time.monotonic_ns()
    time.sleep(0.01)
    assert 0 <= time.monotonic_ns() - began - 10 * MS < EXACT
