"""State per flow, bounded: when a table is full, what was used least recently goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Flow = TypeVar("Flow")


class FlowTable(Generic[Flow]):
    """Flows that can be found by any of their keys.

    limit: how many flows there may be. on_evict is told each flow that had to make room, after
    it was removed. Flows are told apart by identity.
    """

    def __init__(self, limit: int, on_evict: Callable[[Flow], None]) -> None:
        self.limit = limit
        self._on_evict = on_evict
        self._flows: dict[bytes, Flow] = {}
        self._keys: OrderedDict[Flow, tuple[bytes, ...]] = OrderedDict()
        self.get = self._flows.get  # bound once: it is called for every packet
        self.touch = self._keys.move_to_end

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, flow: Flow, *keys: bytes) -> None:
        """Put a flow in as the most recently used. Raises KeyError when a key is taken."""
        for key in keys:
            if key in self._flows:
                raise KeyError(key)
        self._keys[flow] = keys
        for key in keys:
            self._flows[key] = flow
        while len(self._keys) > self.limit:
            oldest = next(iter(self._keys))
            self.remove(oldest)
            self._on_evict(oldest)

    def remove(self, flow: Flow) -> None:
        """Forget a flow; harmless when it is not there."""
        for key in self._keys.pop(flow, ()):
            self._flows.pop(key, None)

    def oldest(self) -> Flow | None:
        """The flow that was used least recently."""
        return next(iter(self._keys), None)
