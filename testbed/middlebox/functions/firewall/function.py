"""The firewall that knows connections, and lets through what belongs to one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from testbed.middlebox import (
    PASS,
    Box,
    Count,
    Direction,
    Duration,
    Flow,
    Function,
    Tracker,
    Verdict,
    drop,
    function,
    sides_of,
)
from testbed.middlebox.functions.firewall.windows import Windows
from testbed.wire.craft import reset_for
from testbed.wire.flags import ACK, RST, SYN, opens_connection
from testbed.wire.icmp import PROHIBITED, error_about
from testbed.wire.ip import TCP
from testbed.wire.packet import Packet, Side, reverse_key

_DIRECTION = drop("direction")
_SYN_LIMIT = drop("syn-limit")
_HALF_OPEN_LIMIT = drop("half-open-limit")
_NO_CONNECTION = drop("no-connection")
_OUT_OF_WINDOW = drop("out-of-window")


@dataclass(eq=False, slots=True, kw_only=True)
class _Known(Flow):
    """opener: the side it was opened from. established: the opener has acknowledged an answer."""

    opener: Side
    answered: bool = False
    established: bool = False
    windows: Windows = field(default_factory=Windows)


@function("firewall")
class Firewall(Function):
    """Drops or rejects TCP segments of no connection that it has let open; others pass."""

    protocols = frozenset({TCP})

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What it lets through. All can be set while traffic runs.

        allow: from where connections may be opened: from outside (`inward`), from inside
        (`outward`) or `both`.
        syn_limit: new connections per second, as many at once; None for no limit.
        half_open_limit, half_open_timeout: connections whose handshake is not complete, and the
        seconds that it may take.
        connection_limit: beyond, the least recently used connection is forgotten.
        idle_timeout: seconds after which a silent connection is forgotten. What comes then
        belongs to none.
        reject: what the sender of a dropped segment gets: a TCP `reset`, an `icmp` error
        (administratively prohibited), or nothing (`silent`). Segments outside the window are
        always dropped silently.
        strict_windows: whether segments must lie within the windows announced.
        """

        allow: Direction = "both"
        syn_limit: Count | None = None
        half_open_limit: Count = 16384
        half_open_timeout: Duration = 30.0
        connection_limit: Count = 65536
        idle_timeout: Duration = 3600.0
        reject: Literal["reset", "icmp", "silent"] = "silent"
        strict_windows: bool = False

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._half_open: Tracker[_Known] = Tracker(
            box, self.counters, options.half_open_limit, options.half_open_timeout
        )
        self._open: Tracker[_Known] = Tracker(
            box, self.counters, options.connection_limit, options.idle_timeout
        )
        self._tokens = float(options.syn_limit or 0)
        self._refilled = box.now()

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._half_open.configure(options.half_open_limit, options.half_open_timeout)
        self._open.configure(options.connection_limit, options.idle_timeout)
        self._tokens = min(self._tokens, float(options.syn_limit or 0))

    def gauges(self) -> dict[str, int]:
        return {"now-half-open": len(self._half_open), "now-open": len(self._open)}

    def packet(self, packet: Packet) -> Verdict:
        flow = self._open.find(packet) or self._half_open.find(packet)
        if flow is None:
            if opens_connection(packet.flags):
                return self._opens(packet)
            return self._refuse(packet, _NO_CONNECTION)
        if not flow.windows.accepts(packet) and self.options.strict_windows:
            return _OUT_OF_WINDOW
        (self._open if flow.established else self._half_open).saw(flow, packet.side, packet.flags)
        if not flow.established:
            self._proceed(flow, packet)
        return PASS

    def _opens(self, packet: Packet) -> Verdict:
        if packet.side not in sides_of(self.options.allow):
            return self._refuse(packet, _DIRECTION)
        if len(self._half_open) >= self.options.half_open_limit:
            return self._refuse(packet, _HALF_OPEN_LIMIT)
        if not self._may_open():
            return self._refuse(packet, _SYN_LIMIT)
        flow = _Known(last_used=self.box.now(), opener=packet.side)
        flow.windows.accepts(packet)
        self._half_open.add(flow, packet.key, reverse_key(packet.key))
        self.counters["opened"] += 1
        return PASS

    def _may_open(self) -> bool:
        """Take a token from the bucket, if there is one."""
        limit = self.options.syn_limit
        if limit is None:
            return True
        now = self.box.now()
        self._tokens = min(float(limit), self._tokens + (now - self._refilled) * limit)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _proceed(self, flow: _Known, packet: Packet) -> None:
        """The handshake goes on."""
        if packet.side is not flow.opener:
            flow.answered = flow.answered or packet.flags & (SYN | ACK) == SYN | ACK
        elif flow.answered and packet.flags & (SYN | ACK) == ACK:
            self._half_open.forget(flow)
            flow.established = True
            self._open.add(flow, packet.key, reverse_key(packet.key))
            self._open.saw(flow, packet.side, packet.flags)
            self.counters["established"] += 1

    def _refuse(self, packet: Packet, verdict: Verdict) -> Verdict:
        how = self.options.reject
        answer = None
        if how == "reset" and not packet.flags & RST and packet.checksum_is_right():
            answer = reset_for(packet)
        elif how == "icmp":
            answer = error_about(packet, PROHIBITED)
        if answer is not None:
            self.counters["rejected"] += 1
            self.box.emit(answer, packet.side)
        return verdict
