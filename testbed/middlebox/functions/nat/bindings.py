"""What a NAT keeps for a client: public ports in use, and bindings that outlive connections."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from testbed.middlebox import Box, Timer

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


@dataclass(eq=False, slots=True)
class Binding:
    """A public address, perhaps with a port, that belongs to somebody inside for a while.

    key: whom it belongs to. owner: for a port, the private address and port behind it. remotes: how
    many sessions go to each address outside. kept: whether it outlives its last session. users: how
    many sessions use it now. unused_since: when the last one ended.
    """

    key: bytes
    protocol: int
    address: bytes
    port: int = 0
    owner: bytes = b""
    remotes: Counter[bytes] = field(default_factory=Counter)
    kept: bool = True
    users: int = 0
    unused_since: float = 0.0


class Bindings:
    """Bindings by key; one without users ends after `timeout` seconds (RFC 4787 section 4.3).

    At most `limit` are kept without users. on_end is told of each one that has ended.
    """

    def __init__(
        self, box: Box, timeout: float, limit: int, on_end: Callable[[Binding], None]
    ) -> None:
        self._box = box
        self._timeout = timeout
        self._limit = limit
        self._on_end = on_end
        self._by_key: dict[bytes, Binding] = {}
        self._unused: OrderedDict[Binding, None] = OrderedDict()
        self._timer: Timer | None = None
        self.get = self._by_key.get

    def __len__(self) -> int:
        return len(self._by_key)

    def configure(self, timeout: float, limit: int) -> None:
        """Another timeout and limit hold from now on, for those without users too."""
        self._timeout, self._limit = timeout, limit
        self._forget()

    def add(self, binding: Binding) -> None:
        """Put a new one in; it has to be used at once."""
        self._by_key[binding.key] = binding

    def detach(self, binding: Binding) -> None:
        """Let its key have another; the sessions that use this one go on until they end."""
        if self._by_key.get(binding.key) is binding:
            del self._by_key[binding.key]

    def use(self, binding: Binding) -> None:
        """One more session uses it."""
        binding.users += 1
        self._unused.pop(binding, None)

    def leave(self, binding: Binding) -> None:
        """One session less uses it."""
        binding.users -= 1
        if binding.users:
            return
        if not binding.kept:
            self.detach(binding)
            self._on_end(binding)
            return
        binding.unused_since = self._box.now()
        self._unused[binding] = None
        if self._timer is None or len(self._unused) > self._limit:
            self._forget()

    def _forget(self) -> None:
        """End what was unused too long, and come back when it is the next one's turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._unused:
            oldest = next(iter(self._unused))
            wait = oldest.unused_since + self._timeout - self._box.now()
            if wait > 0 and len(self._unused) <= self._limit:
                self._timer = self._box.call_later(wait, self._forget)
                return
            del self._unused[oldest]
            self.detach(oldest)
            self._on_end(oldest)
