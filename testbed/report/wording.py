"""Numbers as people read them."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """`1 packet`, `1,020 packets`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def are(number: int) -> str:
    """The verb for so many."""
    return "is" if number == 1 else "are"


def clock(ms: float, longest: float | None = None) -> str:
    """A time in the unit that suits `longest`, the longest one beside it; both in ms.

    `0.043 ms` where all are short, `1,221.4 ms` up to ten seconds, `300.000 s` beyond.
    """
    longest = ms if longest is None else longest
    if longest >= 10_000:
        return f"{ms / 1000:,.3f} s"
    return f"{ms:.3f} ms" if longest < 10 else f"{ms:,.1f} ms"


def volume(size: int) -> str:
    """Bytes in nine characters at most: `1,234,567` or `12.3 GB`."""
    if size < 10_000_000:
        return f"{size:,}"
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    raise AssertionError(size)
