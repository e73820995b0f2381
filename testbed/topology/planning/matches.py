"""The names of nodes in rules of `match`, turned into addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from testbed.errors import InvalidValue
from testbed.topology.model import Impairments, Match, ScheduledChange
from testbed.topology.names import looks_like_address

#: All addresses of a node, without prefix lengths.
AddressesOf = Callable[[str], tuple[str, ...]]


def with_addresses(impairments: Impairments, addresses_of: AddressesOf) -> Impairments:
    """The impairments with rules that name no nodes.

    This and the others raise `InvalidValue` for a node without addresses.
    """
    match = _resolved(impairments.match, addresses_of)
    return msgspec.structs.replace(impairments, match=match) if match else impairments


def changes_with_addresses(changes: Mapping[str, Any], addresses_of: AddressesOf) -> dict[str, Any]:
    """Fields of `Impairments`, the same with rules that name no nodes."""
    if not changes.get("match"):
        return dict(changes)
    return {**changes, "match": _resolved(changes["match"], addresses_of)}


def schedule_with_addresses(
    schedule: tuple[ScheduledChange, ...], addresses_of: AddressesOf
) -> tuple[ScheduledChange, ...]:
    """The changes with rules that name no nodes."""
    return tuple(
        msgspec.structs.replace(one, changes=changes_with_addresses(one.changes, addresses_of))
        for one in schedule
    )


def _resolved(rules: tuple[Match, ...], addresses_of: AddressesOf) -> tuple[Match, ...]:
    def numbers(names: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            addresses = (name,) if looks_like_address(name) else addresses_of(name)
            if not addresses:  # and no address at all would stand for any
                raise InvalidValue(f"{name} has no addresses that a rule of `match` could know")
            found += addresses
        return tuple(found)

    return tuple(
        msgspec.structs.replace(rule, to=numbers(rule.to), source=numbers(rule.source))
        for rule in rules
    )
