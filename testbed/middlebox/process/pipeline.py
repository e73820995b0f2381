"""Functions in a row: where packets go, and a count of what became of every one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from testbed.errors import LabError
from testbed.middlebox.counters import BoxCounters, SideCounters
from testbed.middlebox.function import ABSORB, HOLD, PASS, Function, Verdict
from testbed.middlebox.timers import Timer, Timers
from testbed.wire.packet import INSIDE, OTHER, OUTSIDE, Packet, Side

Send = Callable[[Side, memoryview], None]
Judge = Callable[[Packet], Verdict]

_ANY_PROTOCOL = -2
_LARGEST_PACKET: Final = 65535
_NO_ADDRESSES: Final[Mapping[Side, Sequence[str]]] = MappingProxyType({OUTSIDE: (), INSIDE: ()})


class _Stage(NamedTuple):
    """One function as packets from one side meet it."""

    position: int
    judge: Judge


class _Waiting(NamedTuple):
    """A packet of a function's own that waits until the packet in hand has been judged."""

    position: int
    toward: Side
    data: bytearray


class _BoxAt:
    """The box as the function at one position of the row sees it."""

    def __init__(self, pipeline: Pipeline, position: int) -> None:
        self._pipeline = pipeline
        self._position = position
        self.mtu = pipeline.mtu
        self.addresses = pipeline.addresses
        self.log_directory = pipeline.log_directory
        self.now = pipeline.timers.clock

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._pipeline.timers.call_later(delay, callback)

    def emit(self, data: bytearray, toward: Side) -> None:
        self._pipeline.created += 1
        self._pipeline.waiting.append(_Waiting(self._position, toward, data))

    def release(self, data: bytearray, toward: Side) -> None:
        self._pipeline.held -= 1
        self._pipeline.waiting.append(_Waiting(self._position, toward, data))

    def abandon(self, count: int, cause: str) -> None:
        self._pipeline.held -= count
        self._pipeline.count_drop(cause, count)


class Pipeline:
    """The functions of one box, first the outermost. Packets from inside meet the last one first.

    send: puts a packet out on a side; its OSError counts as a drop. mtu: of the smaller side, in
    bytes. addresses: the node's own on each side. buffer: where to put packets that come, ready to
    be sent on from there. It never looks at a clock of its own: whoever
    reads packets calls `receive`, then `timers.fire` and `send_waiting` when time has passed.
    """

    def __init__(
        self,
        send: Send,
        timers: Timers,
        mtu: int,
        addresses: Mapping[Side, Sequence[str]] = _NO_ADDRESSES,
        log_directory: int | None = None,
    ) -> None:
        self._send = send
        self.timers = timers
        self.mtu = mtu
        self.addresses = addresses
        self.log_directory = log_directory
        self.functions: dict[str, Function] = {}
        self._positions: dict[str, int] = {}
        self._packet = Packet()
        self.buffer = bytearray(_LARGEST_PACKET)
        self._view = memoryview(self.buffer)
        self._routes: tuple[dict[int, Sequence[_Stage]], ...] = ({}, {})
        self._for_others: list[Sequence[_Stage]] = [(), ()]
        self.waiting: deque[_Waiting] = deque()
        self._in = [[0, 0], [0, 0]]
        self._out = [[0, 0], [0, 0]]
        self.created = 0
        self.held = 0
        self._absorbed = 0
        self._dropped: dict[str, int] = {}

    # The row

    def add(self, function_type: type[Function], options: dict[str, Any]) -> None:
        """Append a function on the inner end.

        Raises LabError for a second function of that name and for options it does not take.
        """
        name = function_type.name
        if name in self.functions:
            raise LabError(f"middlebox function '{name}' is listed twice; list it once")
        checked = _checked_options(function_type, options)
        position = len(self.functions)
        self.functions[name] = function_type(_BoxAt(self, position), checked)
        self._positions[name] = position
        self._lay_routes()

    def switch(self, name: str, enabled: bool) -> None:
        """Enable or disable a function. Raises KeyError for one that is not here."""
        self.functions[name].enabled = enabled
        self._lay_routes()

    def set_options(self, name: str, changes: dict[str, Any]) -> None:
        """Change some options of a function. Raises KeyError and, for bad options, LabError."""
        function = self.functions[name]
        options = msgspec.to_builtins(function.options) | changes
        function.reconfigure(_checked_options(type(function), options))

    def note(self, flag: str, text: str, important: bool = False) -> None:
        """Tell every function what happens to the box as a whole."""
        for function in self.functions.values():
            function.note(flag, text, important)

    def _lay_routes(self) -> None:
        """Work out, per side and protocol, which functions are asked."""
        active = [
            (self._positions[name], function)
            for name, function in self.functions.items()
            if function.enabled or function.drains
        ]
        named = {number for _, function in active for number in function.protocols or ()}
        for side in Side:
            order = active if side is OUTSIDE else active[::-1]
            routes = self._routes[side]
            routes.clear()
            for number in (*named, _ANY_PROTOCOL):
                routes[number] = tuple(
                    _Stage(position, function.packet)
                    for position, function in order
                    if function.protocols is None or number in function.protocols
                )
            self._for_others[side] = routes.pop(_ANY_PROTOCOL)

    # Packets

    def receive(self, side: Side, buffer: bytearray, length: int) -> None:
        """Take the packet `buffer[:length]` that came from `side` through the box.

        The kernel has taken one from its hop limit on the way in and will take another on the way
        out: one is put back, so that the box is one hop. Multicast is left alone and not counted:
        the kernel does not forward it here, but it announces its own groups on every device.
        """
        packet = self._packet
        loaded = packet.load(buffer, length, side)
        if loaded and (buffer[16] >= 0xE0 if packet.version == 4 else buffer[24] == 0xFF):
            return
        count = self._in[side]
        count[0] += 1
        count[1] += length
        if not loaded:
            self.count_drop("malformed")
            return
        _put_hop_back(packet)
        route = self._routes[side].get(packet.protocol, self._for_others[side])
        if route:
            self._travel(packet, route)
            if self.waiting:
                self.send_waiting()
        else:
            self._leave(packet)

    def _travel(self, packet: Packet, route: Sequence[_Stage]) -> None:
        for position, judge in route:
            verdict = judge(packet)
            if verdict is not PASS:
                self._settle(verdict)
                return
            if self.waiting:  # what the function has sent goes first
                self.waiting.append(_Waiting(position, OTHER[packet.side], packet.copy()))
                return
        self._leave(packet)

    def _settle(self, verdict: Verdict) -> None:
        if verdict is ABSORB:
            self._absorbed += 1
        elif verdict is HOLD:
            self.held += 1
        else:
            self.count_drop(verdict.cause)

    def send_waiting(self) -> None:
        """Send on what functions have emitted or released, in order."""
        packet = Packet()
        while self.waiting:
            position, toward, data = self.waiting.popleft()
            came_from = OTHER[toward]
            if not packet.load(data, len(data), came_from):
                self.count_drop("malformed")
                continue
            route = self._routes[came_from].get(packet.protocol, self._for_others[came_from])
            ahead = [
                stage
                for stage in route
                if (stage.position > position if toward is INSIDE else stage.position < position)
            ]
            self._travel(packet, ahead)

    def _leave(self, packet: Packet) -> None:
        side = OTHER[packet.side]
        buffer = packet.buffer
        view = self._view if buffer is self.buffer else memoryview(buffer)
        try:
            self._send(side, view[: packet.length])
        except OSError as error:
            self.count_drop(f"not-sent: {error.strerror}")
            return
        count = self._out[side]
        count[0] += 1
        count[1] += packet.length

    # Counters

    def count_drop(self, cause: str, count: int = 1) -> None:
        self._dropped[cause] = self._dropped.get(cause, 0) + count

    def counters(self) -> BoxCounters:
        """What has been counted up to now."""
        return BoxCounters(
            received={side.name.lower(): SideCounters(*self._in[side]) for side in Side},
            sent={side.name.lower(): SideCounters(*self._out[side]) for side in Side},
            created=self.created,
            absorbed=self._absorbed,
            held=self.held,
            dropped=dict(self._dropped),
        )


def _checked_options(function_type: type[Function], options: dict[str, Any]) -> Any:
    try:
        return msgspec.convert(options, function_type.Options)
    except msgspec.ValidationError as error:
        known = ", ".join(function_type.Options.__struct_fields__)
        raise LabError(
            f"middlebox function '{function_type.name}' cannot take these options: {error}; "
            f"it has {known or 'none'}"
        ) from error


def _put_hop_back(packet: Packet) -> None:
    """Add one to the hop limit; the IPv4 header checksum follows (RFC 1624)."""
    buffer = packet.buffer
    if packet.version == 6:
        if buffer[7] < 255:
            buffer[7] += 1
    elif buffer[8] < 255:
        buffer[8] += 1
        # The TTL is the upper half of its word: the checksum's upper byte sinks by one, and the
        # borrow of the topmost comes around.
        if buffer[10]:
            buffer[10] -= 1
        elif buffer[11]:
            buffer[10] = 0xFF
            buffer[11] -= 1
        else:
            buffer[10], buffer[11] = 0xFE, 0xFF
