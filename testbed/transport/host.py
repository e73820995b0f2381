"""All TCP connections of one host: which segment is for which (RFC 9293 section 3.10)."""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from testbed.transport.clock import Timekeeper
from testbed.transport.connection import TcpConnection
from testbed.transport.faults import parts_with
from testbed.transport.opening import Surrounding
from testbed.transport.settings import TcpSettings
from testbed.wire.craft import reset_for
from testbed.wire.flags import RST, opens_connection
from testbed.wire.ip import TCP
from testbed.wire.packet import Packet, reverse_key

_MOST_CONNECTIONS: Final = 1024
_EPHEMERAL: Final = range(32768, 61000)
_PORT_TRIES: Final = 64


class TcpListener:
    """Accepts connections to an address and a port.

    backlog: connections that are being opened, or wait to be taken, at most.
    """

    def __init__(self, settings: TcpSettings, backlog: int) -> None:
        self.settings = settings
        self.backlog = max(backlog, 1)
        self.opening: set[TcpConnection] = set()
        self.ready: deque[TcpConnection] = deque()


class TcpHost:
    """The connections of a host. fault: a name of `testbed.transport.faults`, or None.

    clock, transmit, random: see `Surrounding`. mtu: of its interface. changed: is called after
    anything that a program may wait for.
    """

    def __init__(
        self,
        clock: Timekeeper,
        transmit: Callable[[bytearray], None],
        random: Callable[[int], int],
        *,
        mtu: int,
        fault: str | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._connection_type, parts = parts_with(fault)
        self._surrounding = Surrounding(clock, transmit, random, mtu, parts, self.counters)
        self._random = random
        self._transmit = transmit
        self._changed = changed
        self._connections: dict[bytes, TcpConnection] = {}  # by the key of what they receive
        self._listeners: dict[bytes, TcpListener] = {}  # by address and port

    def receive(self, packet: Packet) -> None:
        """Take in a packet, whatever it says."""
        if packet.protocol != TCP:
            return  # what the kernel says to anybody, such as who listens to which group
        if not packet.checksum_is_right():
            self.counters["damaged"] += 1
            return
        width = (len(packet.key) - 4) // 2
        here = packet.key[width : 2 * width] + packet.key[-2:]
        listener = self._listeners.get(here)
        opens = opens_connection(packet.flags)
        known = self._connections.get(packet.key)
        if listener is not None and opens and known is not None and known.replaceable_by(packet):
            known.abort()
            known = None
        if known is not None:
            known.hear(packet)
        elif listener is not None and opens:
            self._accept(listener, packet)
        elif not packet.flags & RST:
            self.counters["refused"] += 1
            self._transmit(reset_for(packet))

    def _accept(self, listener: TcpListener, packet: Packet) -> None:
        full = len(listener.opening) + len(listener.ready) >= listener.backlog
        if full or len(self._connections) >= _MOST_CONNECTIONS:
            self.counters["overflowed"] += 1
            return
        made = self._make(packet.key, listener.settings, lambda: self._pass_on(listener, made))
        listener.opening.add(made)
        made.answer(packet)

    def _pass_on(self, listener: TcpListener, connection: TcpConnection) -> None:
        if connection in listener.opening and connection.phase != "syn-received":
            listener.opening.discard(connection)
            if connection.phase != "closed":
                listener.ready.append(connection)

    def _make(
        self, key: bytes, settings: TcpSettings, changed: Callable[[], None] = lambda: None
    ) -> TcpConnection:
        def note() -> None:
            changed()
            if made.phase == "closed" and self._connections.get(key) is made:
                del self._connections[key]
            self._changed()

        made = self._connection_type(self._surrounding, settings, reverse_key(key), note)
        self._connections[key] = made
        return made

    # Programs

    def listen(self, address: bytes, port: int, settings: TcpSettings, backlog: int) -> TcpListener:
        """Accept connections. Raises OSError where somebody does so already."""
        here = address + port.to_bytes(2, "big")
        if here in self._listeners:
            raise OSError(errno.EADDRINUSE, f"port {port} is listened on already")
        listener = self._listeners[here] = TcpListener(settings, backlog)
        return listener

    def forget(self, listener: TcpListener) -> None:
        """Accept no more; what nobody has taken is reset."""
        self._listeners = {k: one for k, one in self._listeners.items() if one is not listener}
        for one in [*listener.opening, *listener.ready]:
            one.abort()

    def connect(
        self, source: tuple[bytes, int], destination: tuple[bytes, int], settings: TcpSettings
    ) -> TcpConnection:
        """Open a connection; a source port 0 stands for any. Raises OSError without a free one."""
        (own, own_port), (their, their_port) = source, destination
        tries = 1 if own_port else _PORT_TRIES
        for _ in range(tries if len(self._connections) < _MOST_CONNECTIONS else 0):
            port = own_port or _EPHEMERAL[self._random(32) % len(_EPHEMERAL)]
            key = their + own + their_port.to_bytes(2, "big") + port.to_bytes(2, "big")
            if key not in self._connections and own + key[-2:] not in self._listeners:
                made = self._make(key, settings)
                made.open()
                return made
        raise OSError(errno.EADDRNOTAVAIL, "no port is free for the connection")
