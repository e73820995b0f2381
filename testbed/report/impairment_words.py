"""Impairments in words, as tables and pictures of networks show them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from testbed.topology.model import Impairments, Match, Queue
from testbed.topology.units import (
    format_duration,
    format_probability,
    format_queue_limit,
    format_rate,
    format_size,
)


def rate_of(impairments: Impairments) -> str:
    """The rate, or that it follows a trace; empty without either."""
    trace = impairments.rate_trace
    if trace is not None:
        return f"trace of {format_duration(trace.opportunities[-1] / 1000)}"
    return "" if impairments.rate is None else format_rate(impairments.rate)


def delay_of(impairments: Impairments) -> str:
    return format_duration(impairments.delay) if impairments.delay else ""


def loss_of(impairments: Impairments) -> str:
    """A probability, or a model; empty where nothing is lost."""
    loss = impairments.loss
    return model_in_words(impairments.loss_model) or (format_probability(loss) if loss else "")


def queue_of(queue: Queue) -> Iterator[str]:
    """Its limit, its discipline, and whether it marks."""
    yield format_queue_limit(queue.limit)
    if queue.aqm is not None:
        yield model_in_words(queue.aqm)
    if queue.ecn:
        yield "ecn"


def others_of(impairments: Impairments) -> Iterator[str]:
    """All that is neither rate, delay, loss nor queue."""
    if impairments.overhead:
        yield f"overhead {impairments.overhead} B"
    for name in ("jitter", "duplicate", "reorder", "corrupt"):
        given = getattr(impairments, name)
        if given is not None:
            yield f"{name}: {model_in_words(given)}"
    for rule in impairments.drop:
        yield f"drop: {model_in_words(rule)}"
    for match in impairments.match:
        yield f"{_subject(match)}: {in_a_line(match.impairments)}"


def _subject(match: Match) -> str:
    about = {"to": match.to, "from": match.source, "": (match.protocol,), "port": (match.port,)}
    words = [
        f"{key} {'|'.join(map(str, found))}".strip() for key, found in about.items() if any(found)
    ]
    return " ".join(words) or "all IP"


def in_a_line(impairments: Impairments) -> str:
    """All that differs from a plain cable, such as `20mbit, 10ms, loss 1%`."""
    loss = loss_of(impairments)
    words = [rate_of(impairments), delay_of(impairments), f"loss {loss}" if loss else ""]
    if impairments.queue != Queue():
        words.append(f"queue {' '.join(queue_of(impairments.queue))}")
    return ", ".join(filter(None, [*words, *others_of(impairments)]))


def model_in_words(given: msgspec.Struct | None) -> str:
    """A model in a line: its kind and the settings that are not the usual ones."""
    if given is None:
        return ""
    settings = msgspec.to_builtins(given)
    kind = settings.pop(given.__struct_config__.tag_field or "", "")
    kind = settings.pop("name", kind)
    usual = dict(zip(given.__struct_fields__[::-1], given.__struct_defaults__[::-1], strict=False))
    shown = [
        f"{name} {_value(name, value)}"
        for name, value in settings.items()
        if name not in usual or value != usual[name]
    ]
    return " ".join(filter(None, [kind, ", ".join(shown)]))


def _value(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if name in ("spread", "target", "interval"):
        return format_duration(value)
    return format_size(value) if name in ("minimum", "maximum") else format_probability(value)
