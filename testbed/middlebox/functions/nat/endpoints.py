"""The public endpoints of a NAT: who has which, and who outside may send to them."""

from __future__ import annotations

import ipaddress
from itertools import count

from testbed.middlebox import (
    Box,
)
from testbed.middlebox.functions.nat.bindings import Binding, Bindings, PublicPorts
from testbed.middlebox.functions.nat.options import NatOptions, port_range
from testbed.wire.packet import OUTSIDE


class Endpoints:
    """Mappings of private endpoints to public ones, and pairs of a client and an address.

    A key is that of a packet from inside, an ICMP identifier as ports. Whether an address is one
    of the public ones is asked with `in`.
    """

    def __init__(self, box: Box, options: NatOptions) -> None:
        self._box = box
        self._ports: dict[tuple[int, bytes], PublicPorts] = {}
        limits = (options.mapping_timeout, options.session_limit)
        self._mappings = Bindings(box, *limits, self._free_port)
        self._pairs = Bindings(box, *limits, lambda _: None)
        self._taken: dict[tuple[int, bytes, int], Binding] = {}
        self._turn = count()
        self._adopt(options)

    def configure(self, options: NatOptions) -> None:
        """Other options hold from now on; what was given away stays so."""
        self._adopt(options)
        self._mappings.configure(options.mapping_timeout, options.session_limit)
        self._pairs.configure(options.mapping_timeout, options.session_limit)

    def _adopt(self, options: NatOptions) -> None:
        self._options = options
        addresses = [
            ipaddress.ip_address(text) for text in options.pool or self._box.addresses[OUTSIDE]
        ]
        self._pool = {
            version: [one.packed for one in addresses if one.version == version]
            for version in (4, 6)
        }
        self._public = {one.packed for one in addresses}
        self._first_port, self._last_port = port_range(options.ports)

    def gauges(self) -> dict[str, int]:
        return {"now-mappings": len(self._mappings), "now-pairs": len(self._pairs)}

    def __contains__(self, address: bytes) -> bool:
        return address in self._public

    def has_port(self, port: bytes) -> bool:
        """Whether it is one of those that are given to clients."""
        return self._first_port <= int.from_bytes(port, "big") <= self._last_port

    def serve(self, version: int) -> bool:
        """Whether there are public addresses for IPv4 or IPv6."""
        return bool(self._pool[version])

    def mapping_at(self, protocol: int, address: bytes, port: bytes) -> Binding | None:
        """Whose a public endpoint is."""
        return self._taken.get((protocol, address, int.from_bytes(port, "big")))

    def admit(self, mapping: Binding, remote: bytes) -> bool:
        """Whether the filtering lets an address send to it from a port that was not sent to."""
        if self._options.filtering == "address-dependent":
            return mapping.remotes[remote] > 0
        return self._options.filtering == "endpoint-independent"

    # For one more session

    def take(self, protocol: int, key: bytes) -> tuple[Binding, Binding | None] | None:
        """A mapping and, with pairing, a pair for a session; None where no port is free."""
        pair = self._pair(key) if self._options.address_pooling == "paired" else None
        mapping = self._mapping(protocol, key, pair)
        if mapping is None:
            if pair is not None:
                self._pairs.leave(pair)
            return None
        width = (len(key) - 4) // 2
        mapping.remotes[key[width : 2 * width]] += 1
        return mapping, pair

    def share(self, mapping: Binding, remote: bytes) -> tuple[Binding, Binding | None]:
        """A mapping that there is, for a session that was begun from outside."""
        self._mappings.use(mapping)
        mapping.remotes[remote] += 1
        pair = self._pairs.get(mapping.owner[:-2])
        if pair is not None:
            self._pairs.use(pair)
        return mapping, pair

    def leave(self, mapping: Binding, pair: Binding | None, remote: bytes) -> None:
        """A session with the address `remote` has ended."""
        mapping.remotes[remote] -= 1
        if not mapping.remotes[remote]:
            del mapping.remotes[remote]
        self._mappings.leave(mapping)
        if pair is not None:
            self._pairs.leave(pair)

    def _pair(self, key: bytes) -> Binding:
        """The public address of a client, in use from now on."""
        client = key[: (len(key) - 4) // 2]
        pair = self._pairs.get(client)
        if pair is None or pair.address not in self._public:
            pool = self._pool[4 if len(client) == 4 else 6]
            if pair is not None:
                self._pairs.detach(pair)
            pair = Binding(address=pool[next(self._turn) % len(pool)])
            self._pairs.add(client, pair)
        self._pairs.use(pair)
        return pair

    def _mapping(self, protocol: int, key: bytes, pair: Binding | None) -> Binding | None:
        """The public endpoint for a new session, in use from now on; None where none is free."""
        width = (len(key) - 4) // 2
        owner = key[:width] + key[-4:-2]
        shared = self._options.mapping == "endpoint-independent"
        whose = bytes((protocol,)) + (owner if shared else key)
        mapping = self._mappings.get(whose)
        if mapping is not None and mapping.address not in self._public:
            self._mappings.detach(mapping)
            mapping = None
        if mapping is None:
            mapping = self._new_mapping(protocol, owner, pair)
            if mapping is None:
                return None
            self._mappings.add(whose, mapping)
            self._taken[protocol, mapping.address, mapping.port] = mapping
        self._mappings.use(mapping)
        return mapping

    def _new_mapping(self, protocol: int, owner: bytes, pair: Binding | None) -> Binding | None:
        if pair is not None:
            candidates = [pair.address]
        else:
            pool = self._pool[4 if len(owner) == 6 else 6]
            turn = next(self._turn) % len(pool)
            candidates = pool[turn:] + pool[:turn]
        wanted = int.from_bytes(owner[-2:], "big")
        for address in candidates:
            ports = self._ports.setdefault((protocol, address), PublicPorts())
            port = ports.take(wanted, self._first_port, self._last_port)
            if port is not None:
                kept = self._options.mapping == "endpoint-independent"
                return Binding(
                    protocol=protocol, address=address, port=port, owner=owner, kept=kept
                )
        return None

    def _free_port(self, mapping: Binding) -> None:
        self._ports[mapping.protocol, mapping.address].give_back(mapping.port)
        del self._taken[mapping.protocol, mapping.address, mapping.port]
