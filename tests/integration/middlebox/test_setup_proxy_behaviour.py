"""What clients and servers made by Linux see of a setup proxy."""

from __future__ import annotations

import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from box_lab import (
    SECONDS,
    accept,
    box_lab,
    connect,
    exchange_over_both,
    listen,
    proxy_counters,
    quickest_response,
    receive_all,
    responder,
    response_time,
    send_all,
)
from tolerance import tolerance

from testbed import loads
from testbed.lab import Lab

IP_RECVTTL = 12  # include/uapi/linux/in.h
TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK, TCPI_OPT_WSCALE = 1, 2, 4  # include/uapi/linux/tcp.h


def handshake_data_dropped(lab: Lab) -> int:
    """There may be other drops: where the machine stalls, an end repeats what was dealt with."""
    return lab["router"].counters().dropped.get("handshake-data", 0)


@pytest.mark.smoke
def test_the_docomo_case():
    """Only {drops, data with the handshake} waits for the client's retransmission time-out."""
    with box_lab({"handshake_data": "drop"}, delay="10ms") as lab, responder(lab) as listener:
        function = lab["router"].function("setup-proxy")

        def measure() -> tuple[float, float]:
            return (
                quickest_response(lab, listener, with_handshake=False),
                quickest_response(lab, listener, with_handshake=True),
            )

        dropping_bare, dropping_data = measure()
        assert handshake_data_dropped(lab) == 5
        function.set(handshake_data="hold")
        repaired_bare, repaired_data = measure()
        function.disable()
        off_bare, off_data = measure()
        assert handshake_data_dropped(lab) == 5
        assert proxy_counters(lab)["opened"] == 20
        round_trip = off_bare
        assert dropping_data > 5 * round_trip
        for other in (dropping_bare, repaired_bare, repaired_data, off_data):
            assert abs(other - round_trip) < tolerance(0.5 * round_trip, virtual=50e-6)


def test_serial_opening_costs_no_extra_loss():
    options = {"opening": "serial", "handshake_data": "hold"}
    with box_lab(options, delay="10ms") as lab, responder(lab) as listener:
        for with_handshake in (True, False):
            assert quickest_response(lab, listener, with_handshake=with_handshake) < 0.1
        assert handshake_data_dropped(lab) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_cookies_make_the_docomo_case_no_better_and_no_worse(family):
    options = {"cookies": "true", "handshake_data": "drop"}
    with box_lab(options, delay="10ms") as lab, responder(lab, family) as listener:
        bare = quickest_response(lab, listener, with_handshake=False)
        dropped = quickest_response(lab, listener, with_handshake=True)
        assert handshake_data_dropped(lab) == 5
        lab["router"].function("setup-proxy").set(handshake_data="hold")
        held = quickest_response(lab, listener, with_handshake=True)
        assert handshake_data_dropped(lab) == 5
        assert proxy_counters(lab)["cookies-accepted"] == 15
    assert dropped > 5 * bare and held < 2 * bare


@pytest.mark.parametrize("stamps", [0, 1])
def test_what_a_cookie_cannot_hold_is_not_agreed_on(stamps):
    """Without timestamps no window scale and no SACK, as with Linux's own cookies."""
    agreed = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE if stamps else 0
    sysctls = {"net.ipv4.tcp_timestamps": stamps}
    with (
        box_lab({"cookies": "true"}, client=sysctls) as lab,
        responder(lab) as listener,
        connect(lab, listener) as proxied,
    ):
        proxied.sendall(bytes(100))
        assert proxied.recv(100)
        assert _agreed_options(proxied) == agreed
    own = {"net.ipv4.tcp_syncookies": 2}
    with box_lab(client=sysctls, server=own) as lab, responder(lab) as listener:
        lab["router"].function("setup-proxy").disable()
        with connect(lab, listener) as direct:
            assert _agreed_options(direct) == agreed


def test_a_box_with_cookies_lets_connections_from_inside_through():
    with box_lab({"cookies": "true"}) as lab:
        listener = lab["client"].listen()
        listener.settimeout(SECONDS)
        with listener, lab["server"].socket() as inside:
            inside.settimeout(SECONDS)
            inside.connect(listener.getsockname()[:2])
            outside = accept(listener)
            with outside, ThreadPoolExecutor(1) as pool:
                sent = pool.submit(send_all, outside, bytes(100_000))
                assert receive_all(inside) == bytes(100_000)
                sent.result(SECONDS)
        assert lab["router"].counters().dropped == {}


def _agreed_options(sock: socket.socket) -> int:
    """tcpi_options: the sixth byte of TCP_INFO."""
    options = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
    return options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE)


@pytest.mark.parametrize("family", [4, 6])
def test_an_answer_without_window_keeps_data_off_the_handshake(family):
    """As with the kernel's SYNPROXY: a delayed acknowledgement then delays the request."""
    options = {"answer_window": 0, "opening": "serial", "handshake_data": "drop"}
    with box_lab(options, delay="10ms") as lab, responder(lab, family) as listener:
        function = lab["router"].function("setup-proxy")
        eager = quickest_response(lab, listener, with_handshake=False)
        waiting = quickest_response(lab, listener, with_handshake=True)
        assert handshake_data_dropped(lab) == 0  # nothing rode on the third segment
        assert proxy_counters(lab)["windows-opened"] == 10
        function.set(answer_window=65535, handshake_data="hold")
        riding = quickest_response(lab, listener, with_handshake=True)
        assert proxy_counters(lab)["windows-opened"] == 10
    assert waiting > 3 * eager and waiting > 3 * riding


@pytest.mark.parametrize("opening", ["simultaneous", "serial"])
def test_a_transfer_after_an_answer_without_window(opening):
    with box_lab({"answer_window": 0, "opening": opening}, loss="1%") as lab:
        exchange_over_both(lab)


@pytest.mark.parametrize("opening", ["simultaneous", "serial"])
@pytest.mark.parametrize("family", [4, 6])
def test_the_server_speaks_first(opening, family):
    with (
        box_lab({"opening": opening}) as lab,
        responder(lab, family, greeting=b"220 welcome") as listener,
        connect(lab, listener) as sock,
    ):
        assert sock.recv(100) == b"220 welcome"
        sock.sendall(b"QUIT")
        assert sock.recv(100) == b"QUIT"


@pytest.mark.parametrize("opening", ["simultaneous", "serial"])
def test_a_refusing_server(opening):
    with box_lab({"opening": opening}) as lab:
        listener = listen(lab)
        address = listener.getsockname()
        listener.close()
        with lab["client"].socket() as sock:
            sock.settimeout(SECONDS)
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                sock.connect(address)
                sock.recv(1)
        assert proxy_counters(lab)["refused"] == 1


def test_a_server_that_does_not_answer():
    with box_lab({"half_open_timeout": "2s"}) as lab:
        listener = listen(lab)
        lab.link("router", "server").cut()
        started = time.perf_counter()
        with connect(lab, listener) as sock:
            assert time.perf_counter() - started < 1.5  # answered by the proxy
            sock.sendall(b"request")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert time.perf_counter() - started >= 1.9
        counted = proxy_counters(lab)
        assert counted["timed-out"] == 1 and counted["calls-repeated"] == 1
        assert counted["now-opening"] == 0 and counted["now-held-bytes"] == 0


def test_a_server_that_is_unreachable():
    text = """
name: gone
nodes:
  client: {}
  router: {kind: middlebox, outside: client, functions: [setup-proxy]}
  beyond: {kind: router}
  server: {}
links:
  - endpoints: [client:eth0, router:outside]
  - endpoints: [router:inside, beyond:eth0]
  - endpoints: [beyond:eth1, server:eth0]
"""
    with Lab(loads(text)) as lab:
        lab["beyond"].run(["ip", "route", "replace", "unreachable", lab["server"].address])
        with lab["client"].socket() as sock:
            sock.settimeout(SECONDS)
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                sock.connect((lab["server"].address, 80))
                sock.recv(1)
        assert proxy_counters(lab)["unreachable"] == 1


def test_twenty_connections_at_once():
    payload = bytes(range(256)) * 200
    with box_lab(loss="1%", seed=4) as lab, listen(lab) as listener:

        def serve() -> None:
            for _ in range(20):
                threading.Thread(target=echo, args=(accept(listener),), daemon=True).start()

        def echo(sock: socket.socket) -> None:
            with sock:
                send_all(sock, receive_all(sock))

        def ask(number: int) -> bool:
            with connect(lab, listener) as sock:
                send_all(sock, payload + bytes([number]))
                return receive_all(sock) == payload + bytes([number])

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(ask, range(20)))
        server.join(SECONDS)
        assert proxy_counters(lab)["spliced"] == 20


def test_disabled_at_run_time_it_carries_on_what_it_has_begun():
    with box_lab() as lab, responder(lab) as listener, connect(lab, listener) as old:
        old.sendall(b"before")
        assert old.recv(100) == b"before"
        lab["router"].function("setup-proxy").disable()
        response_time(lab, listener, with_handshake=True)
        old.sendall(b"after")
        assert old.recv(100) == b"after"
        assert proxy_counters(lab)["opened"] == 1


def test_one_port_used_again_and_again():
    """The server closes first, so that the old connection lies in TIME-WAIT there."""
    with box_lab() as lab, listen(lab) as listener:
        for number in range(5):
            with lab["client"].socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.settimeout(SECONDS)
                sock.bind((lab["client"].address, 40000))
                connect_when_free(sock, listener.getsockname())
                with accept(listener) as far:
                    far.sendall(bytes([number]))
                    far.shutdown(socket.SHUT_WR)
                    assert receive_all(sock) == bytes([number])
        assert proxy_counters(lab)["spliced"] == 5


def connect_when_free(sock: socket.socket, address: tuple[str, int]) -> None:
    """Connect as soon as the client's own end of the old connection is gone."""
    deadline = time.monotonic() + SECONDS
    while (error := sock.connect_ex(address)) == errno.EADDRNOTAVAIL:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert error == 0


def test_data_on_the_syn_is_sent_again_and_arrives():
    """TCP Fast Open without a cookie (tcp_fastopen bit 2); the proxy accepts no such data."""
    with (
        box_lab(client={"net.ipv4.tcp_fastopen": 5}) as lab,
        responder(lab) as listener,
        lab["client"].socket() as sock,
    ):
        sock.sendto(b"early", socket.MSG_FASTOPEN, listener.getsockname())
        sock.settimeout(SECONDS)
        assert sock.recv(100) == b"early"
        assert proxy_counters(lab)["spliced"] == 1


def test_path_mtu_discovery_of_the_server():
    """A router outside says that segments are too big: the server must recognise its own."""
    text = """
name: narrow
nodes:
  client: {}
  first: {kind: router}
  second: {kind: router}
  router: {kind: middlebox, outside: second, functions: [setup-proxy]}
  server: {}
links:
  - endpoints: [client:eth0, first:eth0]
  - {endpoints: [first:eth1, second:eth0], mtu: 1300}
  - endpoints: [second:eth1, router:outside]
  - endpoints: [router:inside, server:eth0]
"""
    data = bytes(200_000)
    with Lab(loads(text)) as lab:
        for family in (4, 6):
            with (
                listen(lab, family) as listener,
                connect(lab, listener) as near,
                accept(listener) as far,
                ThreadPoolExecutor(1) as pool,
            ):
                sent = pool.submit(send_all, far, data)
                assert receive_all(near) == data
                sent.result(SECONDS)


def test_the_box_is_one_hop():
    with box_lab() as lab:
        for family, level, wanted, kind in (
            (4, socket.IPPROTO_IP, IP_RECVTTL, socket.IP_TTL),
            (6, socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, socket.IPV6_HOPLIMIT),
        ):
            domain = socket.AF_INET if family == 4 else socket.AF_INET6
            address = lab["server"].address if family == 4 else lab["server"].address6
            with (
                lab["server"].socket(domain, socket.SOCK_DGRAM) as far,
                lab["client"].socket(domain, socket.SOCK_DGRAM) as near,
            ):
                far.settimeout(SECONDS)
                far.setsockopt(level, wanted, 1)
                far.bind((address, 5000))
                near.sendto(b"hello", (address, 5000))
                data, ancillary, _, _ = far.recvmsg(100, 100)
            hops = {k: int.from_bytes(v, "little") for at, k, v in ancillary if at == level}
            assert data == b"hello" and hops[kind] == 63


def test_connections_from_inside_are_not_proxied():
    with box_lab() as lab:
        listener = lab["client"].listen()
        with lab["server"].socket() as sock:
            sock.settimeout(SECONDS)
            sock.connect(listener.getsockname())
            with accept(listener) as far:
                far.sendall(b"hello")
                assert sock.recv(100) == b"hello"
        assert proxy_counters(lab).get("opened", 0) == 0
