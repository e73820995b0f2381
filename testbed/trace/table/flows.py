"""Flows by number: a dictionary of all, and before it a hash table that numpy looks into."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from testbed.trace.segments import Endpoint, Flow
from testbed.wire.packet import address_length, reverse_key

Key: TypeAlias = bytes
"""Source address, destination address, source port, destination port: 12 or 36 bytes."""
Around: TypeAlias = tuple[str, ...]
Words: TypeAlias = Sequence[NDArray[np.uint64]]
"""The key of each of many packets, and the VLAN, in numbers of 64 bits."""

_FIRST_SLOTS: Final = 1 << 10
_NO_KEY: Final = (1 << 64) - 1  # in the last word, which has 16 bits that are always 0


class Flows:
    """All flows of a capture; the two directions between two endpoints have neighbouring numbers.

    The numbers of a pair are 2n and 2n + 1; a connection of an endpoint to itself has one flow.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.arounds: list[Around] = []
        self._numbers: dict[tuple[Key, Around], int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, key: Key, around: Around = ()) -> int:
        """The number of a flow; a new one gets the next, and its other direction the one after."""
        found = self._numbers.get((key, around))
        if found is not None:
            return found
        number = len(self.keys)
        back = reverse_key(key)
        self.keys += (key, back)
        self.arounds += (around, around)
        self._numbers[back, around] = number + 1
        self._numbers[key, around] = number  # last: it is the one of a flow to itself
        return number

    def opposite(self, number: int) -> int:
        """The flow the other way."""
        return number if self.keys[number] == self.keys[number ^ 1] else number ^ 1

    def ports(self, number: int) -> tuple[bytes, bytes]:
        """Source and destination port, as they stand in the header."""
        return self.keys[number][-4:-2], self.keys[number][-2:]

    def flow(self, number: int) -> Flow:
        """The flow in words."""
        key, around = self.keys[number], self.arounds[number]
        size = address_length(key)
        source, destination = (
            Endpoint(_address(address), int.from_bytes(port, "big"))
            for address, port in zip((key[:size], key[size:-4]), self.ports(number), strict=True)
        )
        return Flow(source, destination, around)


@lru_cache(4096)
def _address(address: bytes) -> str:
    return str(ip_address(address))


class FlowCache:
    """The numbers of the flows of many packets at once.

    A hash table that holds one flow in each slot, with whole keys, so that a wrong flow is never
    found; what it has not is asked of the dictionary, once for each flow. The hash is another one
    in every process, lest a capture is made of flows that want the same slot.
    """

    def __init__(self, flows: Flows, width: int) -> None:
        """width: how many words a key has."""
        self._flows = flows
        self._factors = [np.uint64(int.from_bytes(os.urandom(8)) | 1) for _ in range(width)]
        self._slots = np.zeros(_FIRST_SLOTS, np.int64)
        self._keys = [np.full(_FIRST_SLOTS, _NO_KEY, np.uint64) for _ in range(width)]
        self._entered: list[int] = []

    def numbers(
        self, words: Words, key_of: Callable[[int], tuple[Key, Around]]
    ) -> NDArray[np.int64]:
        """The number of each packet's flow. key_of: the key of a packet by its row."""
        slots = self._slots_of(words)
        found = self._slots[slots]
        missing = np.flatnonzero(~self._is(found, words))
        while len(missing):
            _, firsts = np.unique(slots[missing], return_index=True)
            new = missing[firsts]
            numbers = [self._flows.number(*key_of(row)) for row in new.tolist()]
            self._enter(np.array(numbers), [word[new] for word in words], slots[new])
            if len(self._entered) * 2 > len(self._slots):
                self._grow()
                slots = self._slots_of(words)
            found[missing] = self._slots[slots[missing]]
            rest = [word[missing] for word in words]
            missing = missing[~self._is(found[missing], rest)]
        return found

    def _is(self, numbers: NDArray[np.int64], words: Words) -> NDArray[np.bool_]:
        """Whether flows have the keys."""
        equal: NDArray[np.bool_] = self._keys[-1][numbers] == words[-1]
        for keys, word in zip(self._keys[:-1], words[:-1], strict=True):
            equal &= keys[numbers] == word
        return equal

    def _slots_of(self, words: Words) -> NDArray[np.int64]:
        mixed = words[0] * self._factors[0]
        for word, factor in zip(words[1:], self._factors[1:], strict=True):
            mixed += word * factor
        mixed ^= mixed >> np.uint64(32)
        mixed *= self._factors[-1]
        bits = len(self._slots).bit_length() - 1
        return (mixed >> np.uint64(64 - bits)).view(np.int64)

    def _enter(self, numbers: NDArray[np.int64], words: Words, slots: NDArray[np.int64]) -> None:
        """Keep flows that differ, and have slots that differ."""
        size = len(self._keys[0])
        if (highest := int(numbers.max())) >= size:
            fill = np.full(max(highest + 1, 2 * size) - size, _NO_KEY, np.uint64)
            self._keys = [np.concatenate((keys, fill)) for keys in self._keys]
        self._entered += numbers[self._keys[-1][numbers] == _NO_KEY].tolist()
        for keys, word in zip(self._keys, words, strict=True):
            keys[numbers] = word
        self._slots[slots] = numbers

    def _grow(self) -> None:
        entered = np.array(self._entered, np.int64)
        self._slots = np.zeros(8 * len(self._slots), np.int64)
        self._slots[self._slots_of([keys[entered] for keys in self._keys])] = entered
