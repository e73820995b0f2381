"""The scenarios of the NAT, and the NAT itself between real Linux hosts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testbed.errors import ScenarioError
from testbed.lab import Lab, Node
from testbed.middlebox.registry import function_options
from testbed.scenarios import registry, runner
from testbed.topology.load import loads
from testbed.trace import read_trace
from testbed.traffic import exchange_after_silence, transfer

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)

_LAB = """
name: shared
nodes:
  inner: {kind: switch}
  client: {congestion_control: cubic}
  other: {congestion_control: cubic}
  nat:
    kind: middlebox
    outside: server
    functions: [nat: {options}]
    interfaces:
      outside: {addresses: [192.0.2.1/24, 192.0.2.2/24, "2001:db8::1/64", "2001:db8::2/64"]}
  outer: {kind: switch}
  server: {congestion_control: cubic}
links:
  - endpoints: [client:eth0, inner]
  - endpoints: [other:eth0, inner]
  - endpoints: [inner, nat:inside]
  - endpoints: [nat:outside, outer]
  - endpoints: [outer, server:eth0]
captures: [server:eth0]
"""
PUBLIC = {4: {"192.0.2.1", "192.0.2.2"}, 6: {"2001:db8::1", "2001:db8::2"}}


def run(name: str, folder: Path, **parameters: str) -> None:
    scenario, topology = registry.find(name)
    result = runner.run(scenario, topology, parameters=parameters, out=folder / "results").result
    assert result.passed, [(one.parameters, one.verdict, one.measurements) for one in result.runs]


def test_a_cookie_matches_while_the_address_stays(tmp_path):
    run("fast-open-nat", tmp_path, later="2")


def test_keepalive_saves_what_silence_would_end(tmp_path):
    run("idle-timeout", tmp_path, on_timeout="reset", silence="2.5")


def test_a_silent_nat_lets_the_client_hang(tmp_path):
    run("idle-timeout", tmp_path, on_timeout="silent", keepalive="off", silence="2.5")


def test_the_kernels_nat_may_pair_or_not(tmp_path):
    run("fast-open-nat", tmp_path, nat="kernel", later="2")


@pytest.mark.parametrize("on_timeout", ["silent", "reset", "resume"])
def test_the_kernels_nat_forgets_too(tmp_path, on_timeout):
    given = {"nat": "kernel", "on_timeout": on_timeout, "keepalive": "off", "silence": "2.5"}
    run("idle-timeout", tmp_path, **given)


def test_the_kernels_nat_is_saved_by_keepalive_too(tmp_path):
    given = {"nat": "kernel", "on_timeout": "silent", "keepalive": "on", "silence": "2.5"}
    run("idle-timeout", tmp_path, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("idle-timeout", {"on_timeout": "resume"}),
        ("fast-open-nat", {"nat": "kernel", "mapping_timeout": "short"}),
    ],
)
def test_what_one_of_the_two_nats_cannot_do_is_said(tmp_path, name, given):
    with pytest.raises(ScenarioError, match=r"NAT (begins a session|remembers no pairs)"):
        run(name, tmp_path, **given)


def shared(options: str = "{}") -> Lab:
    """Two hosts that share the public addresses, on switches: addresses are resolved for real."""
    text = _LAB.replace("{options}", options).replace("outside: server", "outside: outer", 1)
    return Lab(loads(text, functions=function_options()))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with shared() as running:
        yield running
        assert running["nat"].counters().missing == 0


@pytest.mark.parametrize("family", [4, 6])
def test_hosts_that_share_addresses_have_connections_at_once(lab, family):
    with ThreadPoolExecutor(4) as pool:
        moved = [
            pool.submit(transfer, lab[name], lab["server"], 200_000, direction=way, family=family)
            for name in ("client", "other")
            for way in ("upload", "download")
        ]
        assert [one.result(60).size for one in moved] == [200_000] * 4


@pytest.mark.parametrize("family", [4, 6])
def test_udp_comes_back_from_where_it_was_sent_to_and_from_nowhere_else(lab, family):
    with bound(lab["server"], family) as server, bound(lab["server"], family) as stranger:
        with bound(lab["client"], family) as client:
            client.sendto(b"query", server.getsockname()[:2])
            data, public = server.recvfrom(100)
            assert data == b"query" and public[0] in PUBLIC[family]
            stranger.sendto(b"intruder", public)
            server.sendto(b"answer", public)
            assert client.recvfrom(100)[0] == b"answer"
        assert lab["nat"].counters().dropped["no-mapping"] >= 1


def bound(node: Node, family: int) -> socket.socket:
    sock = node.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((node.address6 if family == 6 else node.address, 0))
    sock.settimeout(20)
    return sock


@pytest.mark.parametrize("family", [4, 6])
def test_ping_goes_through_and_errors_come_back_to_the_one_who_caused_them(lab, family):
    server = lab["server"]
    address = server.address6 if family == 6 else server.address
    assert lab["client"].ping(address) > 0
    with bound(lab["client"], family) as client:
        client.connect((address, 9))  # where nobody listens: the server says so by ICMP
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)
    assert lab["nat"].function("nat").counters()["errors-translated"] >= 1


def test_a_port_that_nobody_listens_on_is_refused_through_the_nat(lab):
    with lab["client"].socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.settimeout(20)
        sock.connect((lab["server"].address, 9))


def test_the_outside_sees_public_addresses_only(tmp_path):
    with Lab(shared().topology, captures=tmp_path) as lab:
        for family in (4, 6):
            transfer(lab["client"], lab["server"], 5000, family=family)
        captures = dict(lab.captures)
    seen = {one.initiator.address for one in read_trace(captures["server:eth0"].path).connections}
    assert len(seen) == 2 and seen <= PUBLIC[4] | PUBLIC[6]


def test_one_port_serves_one_connection_at_a_time_and_a_bigger_range_ends_the_shortage():
    with (
        shared("{pool: [192.0.2.1], ports: 2000-2000}") as lab,
        lab["server"].listen() as listener,
        lab["client"].socket() as first,
        lab["other"].socket() as second,
    ):
        nat = lab["nat"]
        first.settimeout(20)
        first.connect(listener.getsockname())
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.connect(listener.getsockname())
        _await_count(nat, "ports-exhausted")
        nat.function("nat").set(ports="2000-2010")
        listener.settimeout(20)
        ports = []
        for _ in range(2):  # the second one comes when its SYN is sent again
            accepted, (_, port) = listener.accept()
            ports.append(port)
            accepted.close()
        assert ports[0] == 2000 and 2000 < ports[1] <= 2010
        assert nat.counters().dropped["ports-exhausted"] >= 1


@pytest.mark.parametrize("family", [4, 6])
def test_addresses_outside_the_pool_are_the_nodes_own_until_they_are_in_it(family):
    first, second = sorted(PUBLIC[family])
    with shared(f'{{pool: ["{first}"]}}') as lab:
        client, server, nat = lab["client"], lab["server"], lab["nat"]
        with nat.listen(address=second) as listener, nat.listen(address=first) as hidden:
            with server.socket(listener.family) as sock:
                sock.settimeout(20)
                sock.connect(listener.getsockname()[:2])
            with server.socket(listener.family) as sock:
                sock.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    sock.connect(hidden.getsockname()[:2])
        nat.function("nat").set(pool=[second])
        with server.listen(address=server.address6 if family == 6 else None) as listener:
            with client.socket(listener.family) as sock:
                sock.settimeout(20)
                sock.connect(listener.getsockname()[:2])
            assert listener.accept()[1][0] == second


def _await_count(nat: Node, counter: str) -> None:
    deadline = time.monotonic() + 20
    while not nat.function("nat").counters().get(counter):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reset_after_the_timeout_works_over_ipv6_too():
    with shared("{idle_timeout: 500ms, on_timeout: reset}") as lab:
        found = exchange_after_silence(lab["client"], lab["server"], silence=1.0, family=6)
        assert found.outcome == "reset"
        assert lab["nat"].function("nat").counters()["resets-sent"] >= 1
