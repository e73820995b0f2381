"""Segments grouped into connections, by the rows of their table.

Only segments with SYN, FIN or RST can divide what two endpoints say into several connections, so
only those are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.trace.protocols import VLAN
from testbed.trace.table import Integers
from testbed.trace.table.flows import Flows
from testbed.trace.table.segment_table import sorted_by
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import reverse_key


class Group:
    """One connection, and what decides whether a SYN still belongs to it.

    side: the flow of its first segment; opposite: the other one. first: its first row.
    before: the connection before it between the same endpoints, and `interrupted`: whether that
    one was not over.
    answered: a SYN of this one was answered by a SYN/ACK.
    rows: all rows of the table that belong to it.
    """

    __slots__ = (
        "answered", "before", "finished", "first", "initiator", "interrupted", "isns", "opposite",
        "reset", "rows", "side", "syn_acks",
    )  # fmt: skip

    rows: Integers

    def __init__(self, side: int, opposite: int, first: int, before: Group | None = None) -> None:
        self.side = side
        self.opposite = opposite
        self.first = first
        self.before = before
        self.interrupted = before is not None and not before.over
        self.answered = False
        self.initiator: int | None = None
        self.isns: dict[int, int] = {}
        self.syn_acks: dict[int, int] = {}
        self.finished: set[int] = set()
        self.reset = False

    @property
    def over(self) -> bool:
        return self.reset or len(self.finished) == 2

    def other(self, flow: int) -> int:
        """The flow the other way."""
        return self.opposite if flow == self.side else self.side

    def note(self, flow: int, seq: int, ack: int, flags: int) -> None:
        """Remember a segment that has SYN, FIN or RST set."""
        if flags & RST:
            self.reset = True
        elif flags & SYN:
            self.isns.setdefault(flow, seq)
            if flags & ACK:
                self.answered = True
                self.syn_acks.setdefault(flow, ack)
            elif self.initiator is None:
                self.initiator = flow
        elif flags & FIN:
            self.finished.add(flow)

    def refuses(self, flow: int, seq: int, ack: int, flags: int) -> bool:
        """Whether this SYN or SYN/ACK begins another connection between the same endpoints."""
        opposite = self.other(flow)
        own = self.isns.get(flow)
        peer = self.isns.get(opposite)
        if own == seq:
            return False
        if flags & ACK:
            if peer is not None:
                return self.over and ack != (peer + 1) & 0xFFFF_FFFF
            return own is None or self.over
        if own is not None or peer is None:
            return True
        acknowledged = self.syn_acks.get(opposite)
        if acknowledged is not None and opposite not in self.finished:
            return acknowledged != (seq + 1) & 0xFFFF_FFFF
        return self.over  # both sides sent a SYN: simultaneous open


def group_rows(
    flow: NDArray[np.uint32], flows: Flows, columns: dict[str, NDArray[Any]]
) -> list[Group]:
    """The connections of a capture, in the order of their first segments.

    flow: of each row, by its number. columns: `seq`, `ack`, `flags`, `length` of the table.
    """
    if not len(flow):
        return []
    opposite, pair_of = _pairs(np.bincount(flow, minlength=len(flows)), flows)
    pair = pair_of[flow]
    rows, starts = sorted_by(pair, len(flows) // 2)
    firsts = rows[starts[:-1][np.diff(starts) > 0]]
    groups: dict[int, list[Group]] = {}
    for number, side, first in zip(
        pair[firsts].tolist(), flow[firsts].tolist(), firsts.tolist(), strict=True
    ):
        groups[number] = [Group(side, opposite[side], first)]
    pairs = pair_of.tolist()
    for row, one, seq, ack, flags in _control(flow, columns):
        mine = groups[pairs[one]]
        group = mine[-1]
        if (
            flags & (SYN | RST) == SYN
            and row != group.first
            and group.refuses(one, seq, ack, flags)
        ):
            group = Group(one, group.other(one), row, group)
            mine.append(group)
        group.note(one, seq, ack, flags)
    found = sorted((one for mine in groups.values() for one in mine), key=lambda one: one.first)
    for number, mine in groups.items():
        whole = rows[starts[number] : starts[number + 1]]
        cuts = np.searchsorted(whole, [one.first for one in mine[1:]]) if len(mine) > 1 else ()
        for group, part in zip(mine, _cut(whole, cuts), strict=True):
            group.rows = part
    return _put_strays_back(found, flow, columns)


def _cut(rows: Integers, cuts: Iterable[int]) -> Iterator[Integers]:
    begin = 0
    for cut in cuts:
        yield rows[begin:cut]
        begin = cut
    yield rows[begin:]


def _control(
    flow: NDArray[np.uint32], columns: dict[str, NDArray[Any]]
) -> Iterator[tuple[int, int, int, int, int]]:
    rows = np.flatnonzero(columns["flags"] & (SYN | FIN | RST))
    fields = (columns[name][rows].tolist() for name in ("seq", "ack", "flags"))
    return zip(rows.tolist(), flow[rows].tolist(), *fields, strict=True)


# -- VLANs ---------------------------------------------------------------------------------


def _pairs(seen: Integers, flows: Flows) -> tuple[Sequence[int], Integers]:
    """Of each flow the opposite one, and the number of the pair that the two are.

    Directions that have other VLAN tags are a pair, too: a mirror port may tag what comes in and
    not what goes out. Halves belong together where each has one direction only and no other half
    would suit; two VLANs with both directions each are two connections.
    """
    opposite = [flows.opposite(number) for number in range(len(flows))]
    pair_of = np.arange(len(flows)) // 2
    if all(_untagged(around) == around for around in set(flows.arounds)):
        return opposite, pair_of
    halves: dict[tuple[bytes, tuple[str, ...]], list[int]] = {}
    for number in np.flatnonzero(seen).tolist():
        if opposite[number] != number and not seen[opposite[number]]:
            plain = flows.keys[number], _untagged(flows.arounds[number])
            halves.setdefault(plain, []).append(number)
    for (key, around), found in halves.items():
        others = halves.get((reverse_key(key), around), [])
        if len(found) == len(others) == 1:
            opposite[found[0]] = others[0]
            pair_of[found[0]] = pair_of[others[0]] = min(found[0], others[0]) // 2
    return opposite, pair_of


def _untagged(around: tuple[str, ...]) -> tuple[str, ...]:
    """Without the VLANs."""
    return tuple(layer for layer in around if not layer.startswith(f"{VLAN} "))


# -- strays --------------------------------------------------------------------------------


def _put_strays_back(
    groups: list[Group], flow: NDArray[np.uint32], columns: dict[str, NDArray[Any]]
) -> list[Group]:
    """The groups, with what belongs to an older connection put back into that.

    A SYN with another sequence number inside a connection is answered by a challenge ACK (RFC
    9293 section 3.10.7.4). Either the connection goes on; then nothing answers the SYN with a
    SYN/ACK. Or its client is gone and answers with a RST, and tries again; then challenge ACK and
    RST are the last segments of the older connection.
    """
    owner: dict[Group, Group] = {}
    kept = []
    for group in groups:
        old = group.before
        if old is None:
            kept.append(group)
            continue
        old = owner.get(old, old)
        if group.interrupted and not group.answered and _goes_on(group, flow, columns["flags"]):
            old.rows = np.concatenate((old.rows, group.rows))
            owner[group] = old
            continue
        kept.append(group)
        if group.answered and (strays := _before_the_answer(group, columns)):
            old.rows = np.concatenate((old.rows, strays))
            group.rows = group.rows[~np.isin(group.rows, strays)]
    return kept


def _goes_on(group: Group, flow: NDArray[np.uint32], flags: NDArray[Any]) -> bool:
    """Whether both sides send after the SYN, so that the older connection must be alive."""
    others = group.rows[flags[group.rows] & (SYN | RST) == 0]
    return len(np.unique(flow[others])) == 2 or group.opposite == group.side


def _before_the_answer(group: Group, columns: dict[str, NDArray[Any]]) -> list[int]:
    """The rows without SYN between a SYN and the SYN/ACK: numbers of another connection."""
    strays: list[int] = []
    for row in group.rows:
        flags = columns["flags"][row]
        if flags & (SYN | ACK) == SYN | ACK:
            return strays
        if not flags & SYN and not columns["length"][row]:
            strays.append(int(row))
    return []
