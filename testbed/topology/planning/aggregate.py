"""Few prefixes for many: what a longest-prefix-match table needs to say, and no more.

After ORTC (R. Draves et al., Constructing Optimal IP Routing Tables, INFOCOM 1999) on a
path-compressed trie, with two additions: a destination may be indifferent (its connected route
wins anyway), and addresses that belong to no destination are indifferent only inside a given
block; outside it no prefix may cover them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.topology.planning.addressing import Prefix


@dataclass(frozen=True, slots=True)
class _Branch:
    prefix: Prefix
    low: Trie
    high: Trie
    gap: bool  # covers addresses of no destination that must stay without a route


@dataclass(frozen=True, slots=True)
class _Leaf:
    prefix: Prefix
    destination: int
    gap: bool = False


Trie = _Branch | _Leaf


def build_trie(destinations: Mapping[int, Prefix], block: Prefix) -> Trie | None:
    """A trie over disjoint prefixes, keyed by destination number; made once, used per node."""
    leaves = [
        _Leaf(prefix, number)
        for number, prefix in sorted(destinations.items(), key=lambda entry: entry[1])
    ]
    return _build(leaves, block) if leaves else None


def _build(leaves: Sequence[_Leaf], block: Prefix) -> Trie:
    if len(leaves) == 1:
        return leaves[0]
    first, last = leaves[0].prefix, leaves[-1].prefix
    bits = first.bits
    length = bits - (first.base ^ last.base).bit_length()
    half = 1 << (bits - length - 1)
    base = first.base >> (bits - length) << (bits - length)
    middle = base + half
    split = next(index for index, leaf in enumerate(leaves) if leaf.prefix.base >= middle)
    low, high = _build(leaves[:split], block), _build(leaves[split:], block)
    prefix = Prefix(base, length, bits)
    full = low.prefix.length == high.prefix.length == length + 1
    inside = prefix.length >= block.length and prefix.base in block
    gap = low.gap or high.gap or not (full or inside)
    return _Branch(prefix, low, high, gap)


def aggregate(
    trie: Trie, hops: Mapping[int, int], indifferent: frozenset[int]
) -> dict[Prefix, int]:
    """prefix -> next hop, such that every destination in `hops` is routed to its next hop by
    longest prefix match and those in neither argument by none."""
    labels: dict[int, frozenset[int] | None] = {}
    routes: dict[Prefix, int] = {}
    _collect(trie, hops, indifferent, labels)
    _emit(trie, labels, None, routes)
    return routes


_ANY: frozenset[int] = frozenset()


def _collect(
    node: Trie,
    hops: Mapping[int, int],
    indifferent: frozenset[int],
    labels: dict[int, frozenset[int] | None],
) -> frozenset[int] | None:
    """Next hops that are best for a prefix: _ANY if it does not matter, None if it may have
    no route at all (then its parts are routed one by one)."""
    label: frozenset[int] | None
    if isinstance(node, _Leaf):
        if node.destination in hops:
            label = frozenset((hops[node.destination],))
        else:
            label = _ANY if node.destination in indifferent else None
    else:
        low = _collect(node.low, hops, indifferent, labels)
        high = _collect(node.high, hops, indifferent, labels)
        if low is None or high is None or node.gap:
            label = None
        elif not low or not high:
            label = low or high
        else:
            label = low & high or low | high
    labels[id(node)] = label
    return label


def _emit(
    node: Trie,
    labels: Mapping[int, frozenset[int] | None],
    inherited: int | None,
    routes: dict[Prefix, int],
) -> None:
    label = labels[id(node)]
    if label == _ANY:
        return
    if label and inherited not in label:
        inherited = min(label)
        routes[_tightest(node, labels).prefix] = inherited
    if isinstance(node, _Branch):
        _emit(node.low, labels, inherited, routes)
        _emit(node.high, labels, inherited, routes)


def _tightest(node: Trie, labels: Mapping[int, frozenset[int] | None]) -> Trie:
    """The lowest node that still covers all below `node` that matters."""
    while isinstance(node, _Branch):
        if labels[id(node.low)] == _ANY:
            node = node.high
        elif labels[id(node.high)] == _ANY:
            node = node.low
        else:
            break
    return node
