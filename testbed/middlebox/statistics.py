"""The statistics that a services card of a router would show of its TCP connections.

Terms and layout are those of Junos, `show services service-sets statistics tcp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from testbed.errors import LabError
from testbed.wording import suggestion

StatisticsKind: TypeAlias = Literal["tcp"]

_KINDS: Final = ("tcp",)
_LABELS: Final = MappingProxyType(
    {
        "first_packet_non_syn": "TCP first packet non-syn",
        "first_packet_reset": "TCP first packet reset",
        "first_packet_fin": "TCP first packet FIN",
        "non_syn_discard": "TCP non syn discard",
        "extension_alloc_fail": "TCP extension alloc fail",
        "tfo_syn_with_cookie_request": "TFO SYN with cookie request",
        "tfo_syn_with_cookie": "TFO SYN with cookie",
        "tfo_syn_ack_with_cookie": "TFO SYN ACK with cookie",
        "tfo_packets_forwarded": "TFO packets forwarded",
        "tfo_packets_dropped": "TFO packets dropped",
        "tfo_packets_stripped": "TFO packets stripped",
    }
)


class TcpStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How connections began, and what became of TCP Fast Open.

    interface: the outer interface of the box. service_set: the name of the node.
    first_packet_*: flows whose first packet was no SYN, by what it was. non_syn_discard: such
    packets that were dropped. extension_alloc_fail: flows for which there was no room.
    tfo_*: SYN and SYN/ACK segments with the option of RFC 7413, by kind and by what was done.
    """

    interface: str
    service_set: str
    first_packet_non_syn: int = 0
    first_packet_reset: int = 0
    first_packet_fin: int = 0
    non_syn_discard: int = 0
    extension_alloc_fail: int = 0
    tfo_syn_with_cookie_request: int = 0
    tfo_syn_with_cookie: int = 0
    tfo_syn_ack_with_cookie: int = 0
    tfo_packets_forwarded: int = 0
    tfo_packets_dropped: int = 0
    tfo_packets_stripped: int = 0

    def render(self) -> str:
        """The text that the router shows, line by line, without a final newline."""
        head = [f"Interface: {self.interface}", f"Service set: {self.service_set}"]
        counts = [f"{label}: {getattr(self, field)}" for field, label in _LABELS.items()]
        return "\n".join([*head, "TCP open/close statistics:", *counts])

    def to_json(self) -> str:
        """One JSON object with the fields by name."""
        return msgspec.json.encode(self).decode()


def tcp_statistics(
    interface: str, service_set: str, counters: Iterable[Mapping[str, int]]
) -> TcpStatistics:
    """Sum up what the functions of a box have counted.

    A function takes part by counting under the names of the fields, written with hyphens.
    """
    totals = dict.fromkeys(_LABELS, 0)
    for counted in counters:
        for field in totals:
            totals[field] += counted.get(field.replace("_", "-"), 0)
    return TcpStatistics(interface=interface, service_set=service_set, **totals)


def check_kind(kind: str) -> None:
    """Raise LabError unless there are statistics of this kind."""
    if kind not in _KINDS:
        raise LabError(
            f"There are no '{kind}' statistics; there are: {', '.join(_KINDS)}"
            f"{suggestion(kind, _KINDS) or '.'}"
        )
