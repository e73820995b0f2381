"""Over paths with faults: each test has a lab of its own, and may do to it what it likes."""

from __future__ import annotations

import time

import fetcher
import pytest

from testbed import Lab, expect, read_trace

pytestmark = pytest.mark.topology("office")
SIZE = 50_000


def path(**impairments: object) -> dict[str, object]:
    """The office with something wrong between client and server."""
    return {"links": {("client", "server"): impairments}}


@pytest.mark.parametrize(
    "lab",
    [path(loss="5%"), path(rate="1mbit"), path(jitter={"spread": "5ms", "reorder": True})],
    indirect=True,
)
def test_all_bytes_arrive(served: Lab) -> None:
    found = served["client"].call(fetcher.fetch_once, served["server"].address, SIZE, 30.0)
    assert found == fetcher.content(SIZE)


@pytest.mark.topology("office", **path(drop=[{"flags": "SYN"}], toward="server"))
def test_a_lost_syn_costs_a_second_and_no_more(served: Lab) -> None:
    began = time.monotonic()
    served["client"].call(fetcher.fetch_once, served["server"].address, 10, 10.0)
    assert time.monotonic() - began >= 1.0  # the first time-out of TCP, RFC 6298 section 2
    trace = read_trace(served.captures["client:eth0"].flush(), nodes=served.addresses)
    expect(trace.connection(client="client")).retransmits(at_least=1)


def test_the_client_gives_up_in_time_and_recovers(served: Lab) -> None:
    client = fetcher.Client(served["server"].address, patience=0.5)
    assert served["client"].call(client.fetch, 10) == fetcher.content(10)
    served.link("client", "server").cut()
    with pytest.raises(TimeoutError):
        served["client"].call(client.fetch, 10)
    served.link("client", "server").restore()
    client.patience = 10.0
    assert served["client"].call(client.fetch, 10) == fetcher.content(10)
    client.close()
