"""The firewall that knows connections, and lets through what belongs to one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from testbed.middlebox import (
    LINGER,
    LINGERED,
    PASS,
    Box,
    Count,
    Direction,
    Duration,
    Function,
    Phase,
    TcpFlow,
    TcpState,
    TcpTable,
    Verdict,
    drop,
    function,
    sides_of,
)
from testbed.middlebox.functions.firewall.windows import Windows
from testbed.wire.craft import reset_for
from testbed.wire.flags import ACK, FIN, RST, SYN, opens_connection
from testbed.wire.icmp import PROHIBITED, error_about
from testbed.wire.ip import TCP
from testbed.wire.packet import Packet

_DIRECTION = drop("direction")
_SYN_LIMIT = drop("syn-limit")
_HALF_OPEN_LIMIT = drop("half-open-limit")
_NO_CONNECTION = drop("no-connection")
_UNANSWERED = drop("unanswered")
_OUT_OF_WINDOW = drop("out-of-window")


@dataclass(eq=False, slots=True, kw_only=True)
class _Known(TcpFlow):
    """One connection that was let open.

    windows: of its ends.
    challenge: what the other side has acknowledged instead of answering the SYN, None for nothing.
    """

    windows: Windows = field(default_factory=Windows)
    challenge: int | None = None


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
        self._flows: TcpTable[_Known] = TcpTable(
            box, _phases(options), phase_of=(0, 1, 2), counters=self.counters
        )
        self._tokens = float(options.syn_limit or 0)
        self._refilled = box.now()

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(_phases(options))
        self._tokens = min(self._tokens, float(options.syn_limit or 0))

    def gauges(self) -> dict[str, int]:
        return {
            "now-half-open": self._flows.count(TcpState.OPENING),
            "now-open": self._flows.count(TcpState.OPEN),
        }

    def packet(self, packet: Packet) -> Verdict:
        flow = self._flows.find(packet)
        if flow is None:
            if opens_connection(packet.flags):
                return self._opens(packet)
            return self._refuse(packet, _NO_CONNECTION)
        if not flow.answered and not packet.flags & SYN:
            verdict = self._unanswered(flow, packet)
            if verdict is not None:
                return verdict
        if not flow.windows.accepts(packet) and self.options.strict_windows:
            return _OUT_OF_WINDOW
        established = flow.established
        self._flows.saw(flow, packet)
        if flow.established and not established:
            self.counters["established"] += 1
        if flow.closed and not flow.established:  # refused: it is half open no longer
            self._flows.remove(flow)
        return PASS

    def _unanswered(self, flow: _Known, packet: Packet) -> Verdict | None:
        """What becomes of a segment without SYN before the SYN/ACK; None for a reset to be judged.

        As in state SYN_SENT of the kernel's nf_conntrack_proto_tcp.c: an acknowledgement of the
        other side may belong to a connection that the opener has lost, and the opener resets that
        (RFC 9293 section 3.5.1, figure 9).
        """
        from_opener = packet.side is flow.opener
        if packet.flags & RST:
            if from_opener and packet.seq == flow.challenge:
                self._flows.remove(flow)
                return PASS
            return None
        if from_opener or packet.flags & (ACK | FIN) != ACK:
            return self._refuse(packet, _UNANSWERED)
        flow.challenge = packet.ack
        return PASS

    def _opens(self, packet: Packet) -> Verdict:
        if packet.side not in sides_of(self.options.allow):
            return self._refuse(packet, _DIRECTION)
        if self._flows.count(TcpState.OPENING) >= self.options.half_open_limit:
            return self._refuse(packet, _HALF_OPEN_LIMIT)
        if not self._may_open():
            return self._refuse(packet, _SYN_LIMIT)
        flow = _Known()
        flow.windows.accepts(packet)
        self._flows.begin(flow, packet)
        self._flows.saw(flow, packet)
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


def _phases(options: Firewall.Options) -> tuple[Phase, Phase, Phase]:
    """Of connections in each `TcpState`."""
    return (
        Phase(LINGER, options.connection_limit, cause=LINGERED),
        Phase(options.half_open_timeout),
        Phase(options.idle_timeout, options.connection_limit),
    )
