"""The sockets of a namespace, as `ss` lists them: TCP with TCP_INFO, and UDP.

Source: sock_diag(7), include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from testbed.errors import KernelError
from testbed.kernel.netlink.socket import NLM_F_DUMP, Netlink, attributes, pack
from testbed.kernel.tcp_info import STATES, TcpInfo, decode_tcp_info, state_name

ProtocolName: TypeAlias = Literal["tcp", "udp"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_INET_DIAG_INFO, _INET_DIAG_CONG = 2, 4
_EXTENSIONS = 1 << (_INET_DIAG_INFO - 1) | 1 << (_INET_DIAG_CONG - 1)
_ALL_STATES = (1 << len(STATES)) - 1
_PROTOCOLS: dict[ProtocolName, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_IDENTITY_BYTES = 48
_REQUEST = struct.Struct(f"=BBBxI{_IDENTITY_BYTES}x")
# family, state, timer, retransmissions; ports, addresses, interface, cookie; expiry, queues, ...
_ANSWER = struct.Struct("=BB2x2s2s16s16s12x4xII8x")


class SocketState(msgspec.Struct, frozen=True, kw_only=True):
    """One socket as the kernel has it.

    local, remote: address and port. receive_queue, send_queue: bytes that wait in it; of a TCP
    socket that listens, connections that wait to be accepted, and how many may. info: of TCP
    connections, as long as the kernel keeps it.
    """

    protocol: ProtocolName
    state: str
    local: str
    remote: str
    receive_queue: int
    send_queue: int
    congestion_control: str = ""
    info: TcpInfo | None = None


def open_sockets() -> list[SocketState]:
    """All TCP and UDP sockets of the calling thread's namespace. Raises `KernelError`."""
    found: list[SocketState] = []
    with Netlink(_NETLINK_SOCK_DIAG) as netlink:
        for protocol in _PROTOCOLS:
            for family in (socket.AF_INET, socket.AF_INET6):
                found += _sockets(netlink, protocol, family)
    return found


def _sockets(netlink: Netlink, protocol: ProtocolName, family: int) -> Iterator[SocketState]:
    body = _REQUEST.pack(family, _PROTOCOLS[protocol], _EXTENSIONS, _ALL_STATES)
    try:
        payloads = netlink.dump(pack(_SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body))
    except KernelError as error:
        if error.number == errno.ENOENT and protocol == "udp":
            return  # a kernel without udp_diag
        raise
    for payload in payloads:
        yield _socket(protocol, payload)


def _socket(protocol: ProtocolName, payload: bytes) -> SocketState:
    family, state, *ends, waiting, unsent = _ANSWER.unpack_from(payload)
    local_port, remote_port, local, remote = ends
    given = attributes(payload, _ANSWER.size)
    info = given.get(_INET_DIAG_INFO)
    return SocketState(
        protocol=protocol,
        state=state_name(state),
        local=_end(family, local, local_port),
        remote=_end(family, remote, remote_port),
        receive_queue=waiting,
        send_queue=unsent,
        congestion_control=given.get(_INET_DIAG_CONG, b"").rstrip(b"\0").decode(),
        info=decode_tcp_info(info) if info and protocol == "tcp" else None,
    )


def _end(family: int, address: bytes, port: bytes) -> str:
    number = int.from_bytes(port, "big")
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(family, address[:4])}:{number}"
    return f"[{socket.inet_ntop(family, address)}]:{number}"
