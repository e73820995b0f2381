"""The options of a NAT."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal

import msgspec

from testbed.middlebox import (
    Count,
    Duration,
)

_MOST_ADDRESSES: Final = 256


class NatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it maps. All can be set while traffic runs; sessions keep what they have.

    pool: public addresses, the node's own on its outside (all of them when empty) or others
    that the outside routes to it. Packets of a family that has none in it are not translated.
    ports: the public ports, which are ICMP identifiers too, written `1024-60999`. A client
    keeps its own port where it is free. On the node's own addresses all other ports are those of
    the node itself, whose connections begin at 61000 to 65535.
    address_pooling: `paired` gives all sessions of one client the same public address; with
    `none` each mapping takes the next one of the pool.
    mapping: whether an endpoint inside has one public endpoint for all it talks to
    (`endpoint-independent`), or one for each (`endpoint-dependent`).
    filtering: who outside may send to a public endpoint of TCP or UDP: everybody
    (`endpoint-independent`), any port of an address that was sent to from it
    (`address-dependent`), or only the endpoints that were (`address-and-port-dependent`).
    hairpinning: whether hosts inside reach each other by public endpoints (RFC 4787 REQ-9),
    under the same filtering.
    mapping_timeout: seconds for which a client's public address, and an endpoint-independent
    mapping, are kept after the last session.
    idle_timeout: seconds of silence after which an open TCP session ends (RFC 5382 REQ-5).
    transitory_timeout: the same for TCP that is not open yet, or was closed.
    udp_timeout, icmp_timeout: the same for UDP (RFC 4787 REQ-5) and ICMP (RFC 5508 REQ-2).
    on_timeout: what a client gets that goes on with a TCP session that has ended: nothing
    (`silent`) or a `reset`.
    session_limit: sessions remembered; beyond that the least recently used one ends, of those
    not open first.
    """

    pool: tuple[str, ...] = ()
    ports: str = "1024-60999"
    address_pooling: Literal["paired", "none"] = "paired"
    mapping: Literal["endpoint-independent", "endpoint-dependent"] = "endpoint-independent"
    filtering: Literal[
        "endpoint-independent", "address-dependent", "address-and-port-dependent"
    ] = "address-and-port-dependent"
    hairpinning: bool = True
    mapping_timeout: Duration = 300.0
    idle_timeout: Duration = 7440.0
    transitory_timeout: Duration = 240.0
    udp_timeout: Duration = 300.0
    icmp_timeout: Duration = 60.0
    on_timeout: Literal["silent", "reset"] = "silent"
    session_limit: Count = 65536

    def __post_init__(self) -> None:
        if len(self.pool) > _MOST_ADDRESSES:
            raise ValueError(f"pool: at most {_MOST_ADDRESSES} addresses, got {len(self.pool)}")
        for text in self.pool:
            ipaddress.ip_address(text)
        if len(set(self.pool)) < len(self.pool):
            raise ValueError("pool: an address is listed twice")
        port_range(self.ports)


def port_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"ports: expected a range such as 1024-65535, got '{text[:40]}'")
    return first, last
