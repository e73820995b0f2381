"""Over a path without faults: tests that share one lab, which is built once."""

from __future__ import annotations

import asyncio
import time

import fetcher
import pytest

from testbed import Lab, expect, read_trace

pytestmark = pytest.mark.topology("office")
SIZE = 100_000


def test_all_bytes_arrive(office: Lab) -> None:
    found = office["client"].call(fetcher.fetch_once, office["server"].address, SIZE)
    assert found == fetcher.content(SIZE)


def test_one_connection_serves_many_questions(office: Lab) -> None:
    began = time.time_ns()
    client = fetcher.Client(office["server"].address)
    for size in (10, 1000, 10):
        assert office["client"].call(client.fetch, size) == fetcher.content(size)
    client.close()
    trace = read_trace(office.captures["client:eth0"].flush(), nodes=office.addresses)
    (connection,) = (one for one in trace.connections if one.start >= began)
    expect(connection).opens(within=1.0)
    assert connection.server.unique_bytes == 1020


@pytest.mark.anyio
async def test_two_at_a_time(office: Lab) -> None:
    client, address = office["client"], office["server"].address
    both = (client.acall(fetcher.fetch_once, address, size) for size in (10, SIZE))
    assert [len(found) for found in await asyncio.gather(*both)] == [10, SIZE]
