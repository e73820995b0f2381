"""Traces written as tcpdump prints them, and those of RFC 2525."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from testbed.conformance import Circumstances, Finding, check_trace
from testbed.trace import Trace, read_trace
from testbed.trace.analysis import VantagePoint

TRACES = Path(__file__).parents[2] / "data" / "rfc2525"
Judge = Callable[..., Finding]


def read_log(text: str) -> Trace:
    trace = read_trace(io.BytesIO(dedent(text).encode()))
    assert trace.capture.transcript is not None
    assert trace.capture.transcript.skipped == 0
    return trace


def address_of(trace: Trace, name: str) -> str:
    assert trace.capture.transcript is not None
    return {given: address for address, given in trace.capture.transcript.names.items()}[name]


@pytest.fixture
def judge() -> Judge:
    """What one check says of A, or of another one, in a text log.

    at: the name of the host where it was captured.
    """

    def ask(
        problem: str,
        text: str,
        who: str = "A",
        *,
        profile: str = "modern",
        at: str = "",
        default_settings: bool = False,
        plain_close: bool = False,
    ) -> Finding:
        trace = read_log(text)
        vantage = None
        if at:
            first = trace.connections[0].initiator.address == address_of(trace, at)
            vantage = VantagePoint.INITIATOR if first else VantagePoint.RESPONDER
        known = Circumstances(vantage, default_settings, plain_close)
        found = check_trace(trace, profile=profile, problems=[problem], known=known)
        (finding,) = (one for one in found if one.endpoint.address == address_of(trace, who))
        return finding

    return ask


@pytest.fixture
def rfc_trace() -> Callable[[str], str]:
    """The text of a trace of RFC 2525, without its comments."""

    def read(name: str) -> str:
        text = (TRACES / f"{name}.txt").read_text()
        return "".join(
            line for line in text.splitlines(keepends=True) if not re.match(r"#|\s*$", line)
        )

    return read
