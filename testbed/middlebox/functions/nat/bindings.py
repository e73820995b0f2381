"""What a NAT keeps for a client: public ports in use, and bindings that outlive connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from testbed.middlebox import (
    Box,
    Flow,
    FlowTable,
    Phase,
)

_ALL_PORTS: Final = 1 << 16


class PublicPorts:
    """The ports of one public address for one protocol; an ICMP identifier is a port too."""

    def __init__(self) -> None:
        self._used = bytearray(_ALL_PORTS)
        self._next = 0

    def take(self, wanted: int, first: int, last: int) -> int | None:
        """A free port from `first` to `last`: the one wanted, else the next in turn; or None."""
        if not (first <= wanted <= last and not self._used[wanted]):
            start = self._next if first <= self._next <= last else first
            wanted = self._used.find(0, start, last + 1)
            if wanted < 0:
                wanted = self._used.find(0, first, start)
            if wanted < 0:
                return None
            self._next = wanted + 1
        self._used[wanted] = 1
        return wanted

    def give_back(self, port: int) -> None:
        self._used[port] = 0


UNUSED, IN_USE = 0, 1  # the phases of bindings


@dataclass(eq=False, slots=True, kw_only=True)
class Binding(Flow):
    """A public address, perhaps with a port, that belongs to somebody inside for a while.

    protocol: of the port.
    address: the public one.
    port: 0 where the address alone is given.
    owner: for a port, the private address and port behind it.
    remotes: how many sessions go to each address outside.
    kept: whether it outlives its last session.
    users: how many sessions use it now.
    """

    address: bytes
    protocol: int = 0
    port: int = 0
    owner: bytes = b""
    remotes: Counter[bytes] = field(default_factory=Counter)
    kept: bool = True
    users: int = 0


class Bindings:
    """Bindings by key; one without users ends after `timeout` seconds (RFC 4787 section 4.3).

    At most `limit` are kept without users. on_end is told of each one that has ended.
    """

    def __init__(
        self, box: Box, timeout: float, limit: int, on_end: Callable[[Binding], None]
    ) -> None:
        self._on_end = on_end
        self._table: FlowTable[Binding] = FlowTable(
            box, _phases(timeout, limit), on_end=lambda binding, _: on_end(binding)
        )
        self.get = self._table.get
        self.detach = self._table.remove
        """Let the key have another binding; the sessions that use this one go on."""

    def __len__(self) -> int:
        return len(self._table)

    def configure(self, timeout: float, limit: int) -> None:
        """Another timeout and limit hold from now on, for those without users too."""
        self._table.configure(_phases(timeout, limit))

    def add(self, key: bytes, binding: Binding) -> None:
        """Put a new one in; it has to be used at once."""
        self._table.add(binding, key, phase=IN_USE)

    def use(self, binding: Binding) -> None:
        """One more session uses it."""
        binding.users += 1
        if binding.phase == UNUSED:
            self._table.move(binding, IN_USE)

    def leave(self, binding: Binding) -> None:
        """One session less uses it."""
        binding.users -= 1
        if binding.users:
            return
        if binding.kept and self._table.get(*binding.keys) is binding:
            self._table.move(binding, UNUSED)
        else:
            self._table.remove(binding)
            self._on_end(binding)


def _phases(timeout: float, limit: int) -> tuple[Phase, Phase]:
    return Phase(timeout, limit), Phase()
