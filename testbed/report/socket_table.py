"""The sockets of a node as a table, with what TCP knows of each connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from testbed.topology.units import format_rate


def socket_table(sockets: Iterable[Mapping[str, Any]]) -> Table:
    """sockets: as the API of a lab tells them."""
    table = Table("", "state", "local", "remote", "queues (B)", "RTT (ms)", "cwnd", "MSS",
                  "retransmitted", "delivery rate", "congestion control")  # fmt: skip
    for one in sockets:
        table.add_row(
            one["protocol"],
            one["state"],
            one["local"],
            one["remote"],
            f"{one['receive_queue']} in, {one['send_queue']} out",
            *_connection(one["info"] or {}),
            one["congestion_control"] if one["info"] else "",
        )
    return table


def _connection(info: Mapping[str, Any]) -> tuple[str, ...]:
    """What TCP_INFO tells of one that has sent something; empty otherwise."""
    if not info or not info["rtt_us"]:
        return ("",) * 5
    rate = info["delivery_rate"] * 8
    return (
        f"{info['rtt_us'] / 1000:.1f} ±{info['rttvar_us'] / 1000:.1f}",
        str(info["snd_cwnd"]),
        str(info["snd_mss"]),
        str(info["total_retrans"]),
        format_rate(float(f"{rate:.3g}")) if rate else "",
    )
