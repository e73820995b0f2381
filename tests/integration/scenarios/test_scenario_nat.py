"""The scenarios of the NAT, and the NAT itself between real Linux hosts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testbed import loads
from testbed.errors import ScenarioError
from testbed.lab import Lab, LabNode
from testbed.scenarios import registry, runner
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
    return Lab(loads(text))


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


def bound(node: LabNode, family: int) -> socket.socket:
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
        with nat.listen(address=second) as listener, nat.listen(5000, address=first) as hidden:
            listener.settimeout(20)
            with server.socket(listener.family) as sock:
                sock.settimeout(20)
                sock.connect(listener.getsockname()[:2])
                accepted, _ = listener.accept()
                with accepted:
                    sock.sendall(b"request")
                    assert accepted.recv(100) == b"request"
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


def _await_count(nat: LabNode, counter: str) -> None:
    deadline = time.monotonic() + 20
    while not nat.function("nat").counters().get(counter):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("family", [4, 6])
def test_the_node_has_conversations_of_its_own_with_the_outside(lab, family):
    nat, server = lab["nat"], lab["server"]
    public = sorted(PUBLIC[family])[0]
    assert nat.ping(_address(server, family), timeout=10) > 0
    assert server.ping(public, timeout=10) > 0
    for caller, listener, address in (
        (nat, server.listen(address=_address(server, family)), _address(server, family)),
        (server, nat.listen(address=public), public),
    ):
        with listener, caller.socket(listener.family) as sock:
            sock.settimeout(20)
            sock.connect((address, listener.getsockname()[1]))
            listener.settimeout(20)
            accepted, _ = listener.accept()
            with accepted:
                sock.sendall(b"request")
                assert accepted.recv(100) == b"request"
    with bound(server, family) as closed:
        address = closed.getsockname()[:2]
    with nat.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect(address)
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):  # an ICMP error about the node's own
            sock.recv(1)


@pytest.mark.parametrize("family", [4, 6])
def test_filtering_that_depends_on_nobody_lets_strangers_in(family):
    with (
        shared("{filtering: endpoint-independent}") as lab,
        bound(lab["server"], family) as server,
        bound(lab["server"], family) as stranger,
        bound(lab["client"], family) as client,
    ):
        client.sendto(b"query", server.getsockname()[:2])
        _, public = server.recvfrom(100)
        stranger.sendto(b"hello", public[:2])
        data, sender = client.recvfrom(100)
        assert data == b"hello" and sender[1] == stranger.getsockname()[1]
        client.sendto(b"who is it?", sender[:2])
        assert stranger.recvfrom(100)[0] == b"who is it?"
        assert lab["nat"].function("nat").counters()["sessions-from-outside"] == 1


@pytest.mark.parametrize("family", [4, 6])
def test_hosts_inside_meet_by_public_endpoints(lab, family):
    """UDP hole punching between neighbours: a server tells each the other's public endpoint."""
    with (
        bound(lab["server"], family) as server,
        bound(lab["client"], family) as one,
        bound(lab["other"], family) as two,
    ):
        public = []
        for host in (one, two):
            host.sendto(b"who am I?", server.getsockname()[:2])
            public.append(server.recvfrom(100)[1][:2])
        one.sendto(b"knock", public[1])  # filtered: the other one has not said anything yet
        two.sendto(b"knock", public[0])
        data, sender = one.recvfrom(100)
        assert data == b"knock" and sender[:2] == public[1]
        one.sendto(b"hello", public[1])
        data, sender = two.recvfrom(100)
        assert data == b"hello" and sender[:2] == public[0]


@pytest.mark.parametrize("family", [4, 6])
def test_a_service_inside_is_reached_by_its_public_endpoint_from_both_sides(family):
    with (
        shared("{filtering: endpoint-independent}") as lab,
        lab["server"].listen(address=_address(lab["server"], family)) as far,
        reusing(lab["other"], family) as opener,
    ):
        opener.connect(far.getsockname()[:2])  # makes the mapping
        connection, public = far.accept()
        with connection, reusing(lab["other"], family, opener.getsockname()[1]) as service:
            service.listen()
            for caller in ("client", "server"):
                with lab[caller].socket(service.family) as sock:
                    sock.settimeout(20)
                    sock.connect(public[:2])
                    accepted, seen = service.accept()
                    accepted.settimeout(20)
                    with accepted, ThreadPoolExecutor(1) as pool:
                        sent = pool.submit(sock.sendall, bytes(200_000))
                        received = 0
                        while received < 200_000:
                            received += len(accepted.recv(1 << 20))
                        sent.result(20)
                    assert (seen[0] in PUBLIC[family]) == (caller == "client")
        assert lab["nat"].counters().missing == 0


def _address(node: LabNode, family: int) -> str:
    return node.address6 if family == 6 else node.address


def reusing(node: LabNode, family: int, port: int = 0) -> socket.socket:
    """A TCP socket that shares its port with others."""
    sock = node.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((_address(node, family), port))
    sock.settimeout(20)
    return sock


@pytest.mark.parametrize("family", [4, 6])
def test_the_nodes_own_addresses_stay_its_own_for_hosts_inside(lab, family):
    nat, client = lab["nat"], lab["client"]
    public = sorted(PUBLIC[family])[0]
    assert client.ping(public, timeout=10) > 0
    with nat.listen(address=public) as listener, client.socket(listener.family) as sock:
        sock.settimeout(20)
        listener.settimeout(20)
        sock.connect(listener.getsockname()[:2])
        accepted, (address, *_) = listener.accept()
        with accepted:
            sock.sendall(b"request")
            assert accepted.recv(100) == b"request"
            assert address == _address(client, family)


def test_a_reset_after_the_timeout_works_over_ipv6_too():
    with shared("{idle_timeout: 500ms, on_timeout: reset}") as lab:
        found = exchange_after_silence(lab["client"], lab["server"], silence=1.0, family=6)
        assert found.outcome == "reset"
        assert lab["nat"].function("nat").counters()["resets-sent"] >= 1
