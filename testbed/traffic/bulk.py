"""A bulk transfer over TCP: how long, how fast, and whether every byte arrived as it was sent."""

from __future__ import annotations

import socket
import time
from typing import Literal

import msgspec

from testbed.errors import LabError
from testbed.kernel.netlink.rtnetlink import family_of
from testbed.kernel.tcp_info import TcpInfo, congestion_control, tcp_info
from testbed.lab import LabNode
from testbed.traffic.service import Service, address_of, patience

_BLOCK = 1 << 18


def _block(number: int) -> bytes:
    """All blocks differ, so that one that is lost, doubled or moved is noticed."""
    return number.to_bytes(8, "big") * (_BLOCK // 8)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A finished transfer; times in seconds since connect() was called.

    size: bytes carried. first_byte, last_byte: of the data, at the receiving application.
    info: the sender's TCP_INFO when everything had arrived.
    """

    size: int
    connect: float
    first_byte: float
    last_byte: float
    congestion_control: str
    info: TcpInfo

    @property
    def goodput(self) -> float:
        """Bits per second from the connection's start to the last byte."""
        return self.size * 8 / self.last_byte


class _Side:
    """What one end of the transfer found out."""

    def __init__(self) -> None:
        self.first = 0.0
        self.last = 0.0
        self.received = 0
        self.altered = False
        self.info: TcpInfo | None = None
        self.algorithm = ""

    def send(self, sock: socket.socket, size: int) -> None:
        for number, start in enumerate(range(0, size, _BLOCK)):
            sock.sendall(_block(number)[: size - start])
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)  # the other side closes when it has everything
        self.info, self.algorithm = tcp_info(sock), congestion_control(sock)

    def receive(self, sock: socket.socket, size: int) -> None:
        # Waiting for a whole block wakes the kernel for every segment as ever, but not this
        # process. The first byte is waited for alone, for its time, and the last one as well.
        buffer = bytearray(_BLOCK)
        view = memoryview(buffer)
        number = filled = 0
        while count := sock.recv_into(
            view[filled : max(1, size - self.received) + filled],
            flags=socket.MSG_WAITALL if self.received else 0,
        ):
            self.last = time.monotonic()
            self.first = self.first or self.last
            self.received += count
            filled += count
            if filled == _BLOCK or self.received >= size:
                self.altered |= buffer[:filled] != _block(number)[:filled]
                number, filled = number + 1, 0


def transfer(
    client: LabNode,
    server: LabNode,
    size: int,
    *,
    direction: Literal["upload", "download"] = "upload",
    family: int | None = None,
    port: int = 0,
    timeout: float = 60.0,
    asked: bool = False,
) -> Transfer:
    """Carry `size` bytes from client to server (`upload`) or back (`download`).

    asked: a download begins with a byte from the client, as most protocols do. Without it the
    server speaks first, and behind SYN cookies that may be never (RFC 4987 section 3.6): who loses
    the ACK of the handshake has nothing to repeat it with.

    Raises `LabError` when it does not finish, and when a byte is missing, doubled or changed.
    """
    sender, receiver = _Side(), _Side()
    uploads = direction == "upload"

    def serve(sock: socket.socket) -> None:
        with patience(sock, timeout):
            if uploads:
                receiver.receive(sock, size)
            else:
                if asked:
                    sock.recv(1)
                sender.send(sock, size)

    address = address_of(server, family)
    with (
        Service(server, serve, port=port, address=address, timeout=timeout) as service,
        client.socket(family_of(address)) as sock,
    ):
        sock.settimeout(timeout)
        try:
            started = time.monotonic()
            sock.connect((address, service.port))
            connected = time.monotonic()
            with patience(sock, timeout):
                if uploads:
                    sender.send(sock, size)
                else:
                    if asked:
                        sock.sendall(b"?")
                    receiver.receive(sock, size)
                    sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            client.check()
            service.check()
            raise LabError(
                f"The transfer of {size} bytes between '{client.name}' and '{server.name}' "
                f"ended after {receiver.received}: {error}."
            ) from error
    if receiver.received != size or receiver.altered or sender.info is None:
        raise LabError(
            f"The transfer between '{client.name}' and '{server.name}' was not byte-exact: "
            f"{size} bytes sent, {receiver.received} received"
            f"{', with other content' if receiver.received == size else ''}."
        )
    return Transfer(
        size=size,
        connect=connected - started,
        first_byte=receiver.first - started,
        last_byte=receiver.last - started,
        congestion_control=sender.algorithm,
        info=sender.info,
    )
