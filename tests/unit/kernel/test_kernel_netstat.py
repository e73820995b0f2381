"""Counters of the kernel, and sockets, as the kernel writes them."""

from __future__ import annotations

import socket
import struct

from testbed.kernel.netlink.sock_diag import _socket, open_sockets
from testbed.kernel.netstat import parse_counters

SNMP = """\
Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 2 64 17 0
Tcp: RtoMin MaxConn ActiveOpens
Tcp: 200 -1 3
Udp: InDatagrams
Udp: 0
"""


def test_counters_are_told_by_protocol_without_zeros_and_settings():
    assert parse_counters(SNMP) == {"Ip": {"InReceives": 17}, "Tcp": {"ActiveOpens": 3}}
    assert parse_counters("") == {}


def test_the_sockets_of_this_process_are_among_those_listed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            mine = f"127.0.0.1:{client.getsockname()[1]}"
            client.sendall(b"12345")
            found = {(one.local, one.remote): one for one in open_sockets()}
    assert found[f"127.0.0.1:{port}", "0.0.0.0:0"].state == "LISTEN"
    sent = found[mine, f"127.0.0.1:{port}"]
    assert (sent.protocol, sent.state) == ("tcp", "ESTABLISHED")
    assert sent.info is not None and sent.info.data_segs_out == 1 and sent.congestion_control
    received = found[f"127.0.0.1:{port}", mine]
    assert received.receive_queue == 5


def test_an_answer_without_attributes_is_a_socket_without_info():
    ports = struct.pack("!HH", 53, 1024)
    ends = socket.inet_pton(socket.AF_INET6, "fd00::1") + socket.inet_pton(socket.AF_INET6, "::2")
    answer = bytes([socket.AF_INET6, 6, 0, 0]) + ports + ends + bytes(12 + 4)
    found = _socket("udp", answer + struct.pack("=II", 7, 8) + bytes(8))
    assert (found.local, found.remote) == ("[fd00::1]:53", "[::2]:1024")
    assert (found.state, found.receive_queue, found.send_queue) == ("TIME_WAIT", 7, 8)
    assert found.info is None
