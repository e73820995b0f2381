"""Takes in what the other end of a connection sends (RFC 9293 section 3.10.7.4, RFC 2018).

Positions are distances from the end's first byte, and do not wrap.
"""

from __future__ import annotations

from typing import Final

_MOST_GAPS: Final = 64  # of an end that sends every other byte
_MOST_BLOCKS: Final = 4  # that fit an option, beside no timestamps


class Receiver:
    """Puts data in order. It keeps what came too early, and never more than it has promised.

    taken: up to where all is here, the FIN included.
    edge: up to where the end may send; it never goes back.
    finished: whether the FIN was taken.
    """

    def __init__(self, edge: int) -> None:
        self.taken = 0
        self.edge = edge
        self.finished = False
        self._fin: int | None = None
        self._early = bytearray()  # from `taken` on, with holes
        self._ranges: list[tuple[int, int]] = []  # that are filled, the newest first

    @property
    def window(self) -> int:
        """What may still be sent, in bytes."""
        return max(self.edge - self.taken, 0)

    def accepts(self, start: int, size: int) -> bool:
        """Whether a segment, its FIN counted, lies in the window at least in part."""
        if self.finished:
            return size == 0 and start == self.taken
        if size == 0 or start == self.taken:  # a closed window still takes acknowledgements
            return self.taken <= start <= max(self.edge, self.taken)
        return start < self.edge and start + size > self.taken

    def take_probe(self) -> None:
        """Let a closed window take one byte, for which there is room (RFC 9293 section 3.8.6.1)."""
        self.edge += 1

    def take(self, start: int, payload: bytes, fin: bool) -> bytes:
        """Take in an acceptable segment; the data that is in order now."""
        end = start + len(payload)
        if fin and self._fin is None and self.taken <= end <= self.edge and end >= self._furthest:
            self._fin = end
        stop = self.edge if self._fin is None else min(self._fin, self.edge)
        begin, end = max(start, self.taken), min(end, stop)
        if begin < end:
            self._keep(begin, payload[begin - start : end - start])
        data = self._in_order()
        if self._fin == self.taken:
            self.taken += 1
            self.finished = True
        return data

    @property
    def _furthest(self) -> int:
        return max((right for _, right in self._ranges), default=self.taken)

    def _keep(self, start: int, payload: bytes) -> None:
        left, right = start, start + len(payload)
        apart = []
        for old in self._ranges:
            if old[1] < left or right < old[0]:
                apart.append(old)
            else:
                left, right = min(left, old[0]), max(right, old[1])
        if len(apart) >= _MOST_GAPS:
            return
        self._ranges = [(left, right), *apart]
        at = start - self.taken
        missing = at + len(payload) - len(self._early)
        if missing > 0:
            self._early += bytes(missing)
        self._early[at : at + len(payload)] = payload

    def _in_order(self) -> bytes:
        for number, (left, right) in enumerate(self._ranges):
            if left == self.taken:
                del self._ranges[number]
                size = right - left
                data = bytes(self._early[:size])
                del self._early[:size]
                self.taken = right
                return data
        return b""

    def blocks(self) -> list[tuple[int, int]]:
        """What has come too early, for a SACK option: the newest first (RFC 2018 section 4)."""
        return self._ranges[:_MOST_BLOCKS]
