"""Requests and responses between real TCPs, and what their captures say of them."""

from __future__ import annotations

import socket
import threading

import pytest
from tolerance import tolerance

from testbed.errors import LabError
from testbed.lab import Lab
from testbed.topology.model import DropRule
from testbed.topology.vary import with_link
from testbed.topology.yaml.load import loads
from testbed.trace import Connection, read_trace
from testbed.traffic import Responder, exchange
from testbed.traffic.service import Service, receive_exactly

ONE_WAY = 0.02
PATH = loads(f"""
name: path
nodes:
  client: {{congestion_control: reno}}
  server: {{congestion_control: reno}}
links:
  - {{endpoints: [client:eth0, server:eth0], delay: {ONE_WAY * 1000:.0f}ms}}
captures: [client:eth0]
""")
captured = pytest.mark.topology(PATH)


def connection_of(lab: Lab) -> Connection:
    capture = lab.captures["client:eth0"]
    capture.stop()
    (connection,) = read_trace(capture.path).connections
    return connection


@captured
@pytest.mark.parametrize("handshake_data", [False, True])
def test_the_request_rides_on_the_handshake_only_where_asked(lab, handshake_data):
    with Responder(lab["server"], request=300, response=700) as responder:
        exchange(lab["client"], responder, handshake_data=handshake_data)
    handshake = connection_of(lab).handshake
    assert handshake.ack is not None
    assert handshake.ack.length == (300 if handshake_data else 0)


@pytest.mark.smoke
@captured
def test_every_phase_takes_its_round_trips(lab):
    with Responder(lab["server"], response=200_000) as responder:
        all_found = [exchange(lab["client"], responder) for _ in range(5)]
    for found in all_found:
        assert found.connect >= 2 * ONE_WAY and found.first_byte >= 2 * ONE_WAY
        # The first window of ten segments carries a tenth of it: three more round trips follow.
        assert found.last_byte > found.first_byte + 3 * ONE_WAY
        assert found.info.state_name in ("ESTABLISHED", "CLOSE_WAIT")
        assert found.info.bytes_received == 200_000
    # No phase hides a second round trip; the quickest of five, since the machine may stall.
    for phase in ("connect", "first_byte"):
        late = [getattr(found, phase) - 2 * ONE_WAY for found in all_found]
        assert min(late) < tolerance(2 * ONE_WAY, virtual=20e-6)
    assert min(found.retransmissions for found in all_found) == 0


def test_a_lost_request_is_counted_and_seen():
    lossy = with_link(
        PATH, "client", "server", direction="forward", drop=(DropRule(data_segment=1),)
    )
    with Lab(lossy) as lab:
        with Responder(lab["server"]) as responder:
            found = exchange(lab["client"], responder)
        assert found.retransmissions == 1
        assert len(connection_of(lab).retransmissions()) == 1
    assert found.first_byte > 4 * ONE_WAY


def test_ipv6():
    with Lab(PATH) as lab, Responder(lab["server"], address=lab["server"].address6) as responder:
        assert ":" in responder.address
        assert exchange(lab["client"], responder).connect >= 2 * ONE_WAY


@captured
def test_no_response_is_an_error_that_says_so(lab):
    with Responder(lab["server"]) as responder:
        lab.link("client", "server").cut(toward="client")
        with pytest.raises(LabError, match=rf"No response from {responder.address} .*'client'"):
            exchange(lab["client"], responder, timeout=0.3)


@captured
def test_what_goes_wrong_at_the_server_is_told_to_the_client(lab):
    def refuse(sock: socket.socket) -> None:
        receive_exactly(sock, 10)

    with (
        pytest.raises(LabError, match="ended after 3 of 10 bytes"),
        Service(lab["server"], refuse) as service,
        lab["client"].socket() as sock,
    ):
        sock.connect((service.address, service.port))
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@captured
def test_a_service_serves_several_at_once(lab):
    together = threading.Barrier(4, timeout=20)

    def meet(sock: socket.socket) -> None:
        together.wait()
        sock.sendall(b"x")

    with Service(lab["server"], meet, workers=4) as service:
        clients = [lab["client"].socket() for _ in range(4)]
        for sock in clients:
            sock.settimeout(20)
            sock.connect((service.address, service.port))
        assert [sock.recv(1) for sock in clients] == [b"x"] * 4
        for sock in clients:
            sock.close()
