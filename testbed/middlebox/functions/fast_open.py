"""What a box does to TCP Fast Open (RFC 7413): let it through, throw it away, or take it out.

Beside that it follows flows, as the services cards do whose statistics it keeps: how many began
with something else than a SYN. The names of its counters are those of `TcpStatistics`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from testbed.middlebox import (
    PASS,
    Box,
    Count,
    Duration,
    Function,
    Phase,
    TcpFlow,
    TcpTable,
    Verdict,
    drop,
    function,
)
from testbed.wire.edit import blank_option, cut_payload
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.ip import TCP
from testbed.wire.options import FAST_OPEN, option_name
from testbed.wire.packet import Packet

_DROPPED: Final = drop("fast-open")
_NON_SYN: Final = drop("non-syn")
_PHASES: Final = (Phase(), Phase())  # closed, open: none of them ends by itself


@function("fast-open")
class FastOpen(Function):
    """Forwards, drops or strips TCP Fast Open, and counts it."""

    protocols = frozenset({TCP})

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What happens to TCP Fast Open. All can be set while traffic runs.

        mode: `forward` lets it through; `drop` drops SYN and SYN/ACK segments with the option,
        that of RFC 7413 or the experimental one; `strip` overwrites the option with padding and
        cuts off data, also that of a SYN without the option.
        non_syn: what happens to the first packet of a flow when it does not open a connection.
        flow_limit: flows remembered. One that has ended or was idle makes room for a new one; when
        there is none, the new one is not remembered.
        idle_timeout: seconds of silence after which a flow may have to make room (RFC 5382 REQ-5).
        """

        mode: Literal["forward", "drop", "strip"] = "forward"
        non_syn: Literal["forward", "drop"] = "forward"
        flow_limit: Count = 65536
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: TcpTable[TcpFlow] = TcpTable(box, _PHASES, limit=options.flow_limit)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(_PHASES, limit=options.flow_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-flows": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flags = packet.flags
        flow = self._flows.get(packet.key)
        if flow is not None:
            self._flows.saw(flow, packet)
        elif not self._admit(packet, flags):
            return _NON_SYN
        return self._opening(packet, flags) if flags & SYN else PASS

    # Fast Open

    def _opening(self, packet: Packet, flags: int) -> Verdict:
        """Judge a SYN or a SYN/ACK."""
        found = [
            (at, size, kind)
            for kind, at, size in packet.walk_options()
            if option_name(packet.buffer, kind, at, size) == "tfo"
        ]
        mode = self.options.mode
        if found:
            self._count_kind(found[0], flags)
        elif mode != "strip" or packet.payload == packet.end:
            return PASS
        if mode == "forward":
            self.counters["tfo-packets-forwarded"] += 1
            return PASS
        if mode == "drop":
            self.counters["tfo-packets-dropped"] += 1
            return _DROPPED
        for at, size, _ in found:
            blank_option(packet, at, size)
        cut_payload(packet)
        self.counters["tfo-packets-stripped"] += 1
        return PASS

    def _count_kind(self, option: tuple[int, int, int], flags: int) -> None:
        _, size, kind = option
        # The experimental option has an identifier before its cookie (RFC 7413 section 4.1.1).
        cookie = size > (2 if kind == FAST_OPEN else 4)
        if flags & ACK:
            if cookie:
                self.counters["tfo-syn-ack-with-cookie"] += 1
        elif cookie:
            self.counters["tfo-syn-with-cookie"] += 1
        else:
            self.counters["tfo-syn-with-cookie-request"] += 1

    # Flows

    def _admit(self, packet: Packet, flags: int) -> bool:
        """Take note of a new flow; False where it must not begin like this."""
        unusual = _unusual_beginning(flags)
        if unusual:
            self.counters[unusual] += 1
            if self.options.non_syn == "drop":
                self.counters["non-syn-discard"] += 1
                return False
            if flags & RST:  # nothing will follow
                return True
        if self._make_room():
            flow = TcpFlow()
            self._flows.begin(flow, packet)
            self._flows.saw(flow, packet)
        else:
            self.counters["extension-alloc-fail"] += 1
        return True

    def _make_room(self) -> bool:
        """Whether there is room for one more, now that the first in line may have gone."""
        if len(self._flows) < self.options.flow_limit:
            return True
        first = self._flows.oldest()
        if first is None:
            return True
        silent = self.box.now() - first.last_used
        if not first.closed and silent < self.options.idle_timeout:
            return False
        self._flows.remove(first)
        return True


def _unusual_beginning(flags: int) -> str:
    """The counter of a flow whose first packet has these flags; nothing where that is a SYN."""
    if flags & RST:
        return "first-packet-reset"
    if flags & FIN:
        return "first-packet-fin"
    return "" if flags & (SYN | ACK) == SYN else "first-packet-non-syn"
