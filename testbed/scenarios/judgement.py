"""What a run measured, and what the measurements mean."""

from __future__ import annotations

import msgspec

Measurements = dict[str, float | int | str]
"""What one run measured, by name; names end in their unit (`_ms`, `_mbit`)."""


class Judgement(msgspec.Struct, frozen=True):
    """What a cell of the matrix showed, and what it was expected to show."""

    verdict: str
    expected: str

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.expected
