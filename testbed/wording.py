"""How faults are worded: values quoted safely, the nearest valid name suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60
#: What other tools call the words of this one.
_SYNONYMS = {
    "bandwidth": "rate",
    "speed": "rate",
    "throughput": "rate",
    "latency": "delay",
    "rtt": "delay",
    "packet_loss": "loss",
    "drop_rate": "loss",
    "buffer": "queue",
    "limit": "queue",
    "type": "kind",
    "gateway": "via",
    "nexthop": "via",
    "next_hop": "via",
    "ip": "addresses",
    "address": "addresses",
    "cc": "congestion_control",
    "tcp_congestion_control": "congestion_control",
    "cidr": "subnet",
}
_MOST_CANDIDATES = 2000


def quote(value: object) -> str:
    """A value as a message shows it: printable, on one line, at most some sixty characters."""
    text = repr(value[:_LONGEST] if isinstance(value, str) else value)
    if len(text) > _LONGEST or (isinstance(value, str) and len(value) > _LONGEST):
        text = text[:_LONGEST] + "..."
    return text


def join(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    listed = list(words)
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} {last} {listed[-1]}"


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends with a question."""
    return text if text.endswith((".", "?")) else f"{text}."


def suggestion(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?` for the candidate nearest to `word`, empty if none is near.

    A candidate that means the same in other tools is nearer than one that is spelt alike.
    """
    some = [name for name, _ in zip(candidates, range(_MOST_CANDIDATES), strict=False)]
    lowered = {name.lower(): name for name in reversed(some)}
    meant = _SYNONYMS.get(word[:_LONGEST].lower().replace("-", "_"))
    if meant in lowered and word.lower() not in lowered:
        return f"; did you mean {meant!r}?"
    near = difflib.get_close_matches(word[:_LONGEST].lower(), lowered, n=1, cutoff=cutoff)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""
