"""Traces written as tcpdump prints them."""

from __future__ import annotations

import io
from collections.abc import Callable
from textwrap import dedent

import pytest

from testbed.conformance import Finding, check_trace
from testbed.trace import read_trace

Judge = Callable[..., Finding]


@pytest.fixture
def judge() -> Judge:
    """What one check says of the first sender's side, or of another one, in a text log."""

    def ask(problem: str, text: str, who: str = "A", profile: str = "modern") -> Finding:
        trace = read_trace(io.BytesIO(dedent(text).encode()))
        assert trace.capture.transcript is not None
        assert trace.capture.transcript.skipped == 0
        address = {name: at for at, name in trace.capture.transcript.names.items()}[who]
        found = check_trace(trace, profile=profile, problems=[problem])
        (finding,) = (one for one in found if one.endpoint.address == address)
        return finding

    return ask
