"""Impairments for a part of the packets, as if these came over a link of their own before."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from testbed.emulator.elements.element import Branch, Element, Surroundings, element
from testbed.kernel.timer import NEVER, Nanoseconds
from testbed.topology.model import Impairments, Match
from testbed.wire.frame import ip_of_frame
from testbed.wire.ip import ICMP, ICMPV6, TCP, UDP, IpHeaders

_MOST = 1 << 30
_PROTOCOLS = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMPV6)}
_ports = struct.Struct("!HH").unpack_from


class Selector:
    """Tells whether a packet is one of those that a rule is about."""

    def __init__(self, rule: Match) -> None:
        self._to = _networks(rule.to)
        self._from = _networks(rule.source)
        self._protocols = _PROTOCOLS.get(rule.protocol or "", ())
        self._port = rule.port

    def takes(self, frame: bytes, headers: IpHeaders) -> bool:
        """A port is not looked for in fragments but the first, which alone have one."""
        if self._protocols and headers.protocol not in self._protocols:
            return False
        if self._port is not None and not self._has_port(frame, headers):
            return False
        size, first = (4, 12) if headers.version == 4 else (16, 8)
        source = headers.start + first
        return _within(self._from, frame[source : source + size]) and _within(
            self._to, frame[source + size : source + 2 * size]
        )

    def _has_port(self, frame: bytes, headers: IpHeaders) -> bool:
        at = headers.transport
        if headers.protocol not in (TCP, UDP) or headers.offset or at + 4 > len(frame):
            return False
        return self._port in _ports(frame, at)


class _Rule(NamedTuple):
    match: Match
    selector: Selector
    branch: Branch


@element(15)
class Selective(Element):
    """Leads each packet through the impairments of the first rule that is about it.

    They come before all others of the direction, but for cuts. What is not about IP, and what no
    rule is about, goes past them.
    """

    holds = True

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._make_branch = surroundings.branch
        self._rules: list[_Rule] = []
        self._leaving: list[Branch] = []

    @property
    def neutral(self) -> bool:
        return not self._rules

    @property
    def waiting(self) -> int:
        """Packets in the queues of rules."""
        return sum(branch.waiting(0) for branch in self._branches)

    @property
    def in_flight(self) -> int:
        """Packets that have left these queues, and have not gone on."""
        return sum(len(branch.departures) for branch in self._branches)

    @property
    def _branches(self) -> list[Branch]:
        return [*self._leaving, *(rule.branch for rule in self._rules)]

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        """A rule keeps its state where its place and what it is about stay the same."""
        before = self._rules
        self._rules = []
        for number, match in enumerate(impairments.match):
            same = number < len(before) and _subject(before[number].match) == _subject(match)
            branch = before[number].branch if same else self._make_branch(f"match {number}")
            branch.configure(match.impairments, round_trip, now)
            self._rules.append(_Rule(match, Selector(match), branch))
        kept = {id(rule.branch) for rule in self._rules}
        self._leaving += [rule.branch for rule in before if id(rule.branch) not in kept]

    def settings(self) -> dict[str, Any]:
        return {
            "match": tuple(
                Match(**_subject(rule.match), impairments=rule.branch.in_force)
                for rule in self._rules
            )
        }

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        self.take_all((frame,), (time,))

    def take_all(self, frames: Sequence[bytes], times: Sequence[Nanoseconds]) -> None:
        for frame, time in zip(frames, times, strict=True):
            self._pass_on(time)
            branch = self._branch_of(frame)
            if branch is None:
                self.emit(frame, time)
            else:
                branch.take(frame, time)
        if times:
            self.advance(times[-1])

    def _branch_of(self, frame: bytes) -> Branch | None:
        headers = ip_of_frame(frame)
        if headers is not None:
            for rule in self._rules:
                if rule.selector.takes(frame, headers):
                    return rule.branch
        return None

    def advance(self, now: Nanoseconds) -> None:
        self._pass_on(now)
        self._leaving = [
            branch for branch in self._leaving if branch.waiting(now) or len(branch.departures)
        ]
        self.wake = min((branch.wake for branch in self._branches), default=NEVER)

    def _pass_on(self, now: Nanoseconds) -> None:
        """Emit what leaves the rules by `now`, in the order of time."""
        due: list[tuple[Nanoseconds, bytes]] = []
        for branch in self._branches:
            branch.advance(now)
            due += branch.departures.pop_due(now, _MOST)
        due.sort(key=lambda departing: departing[0])
        for time, frame in due:
            self.emit(frame, time)


def _subject(match: Match) -> dict[str, Any]:
    """What a rule is about, without what it does."""
    return {name: getattr(match, name) for name in match.__struct_fields__ if name != "impairments"}


def _networks(texts: Sequence[str]) -> list[tuple[int, int, int]]:
    """Base, mask and bytes of each prefix."""
    networks = [ipaddress.ip_network(text, strict=False) for text in texts]
    return [(int(n.network_address), int(n.netmask), n.max_prefixlen // 8) for n in networks]


def _within(networks: Sequence[tuple[int, int, int]], address: bytes) -> bool:
    if not networks:
        return True
    number = int.from_bytes(address, "big")
    return any(len(address) == size and number & mask == base for base, mask, size in networks)
