"""Through a NAT that forgets: a topology that comes with testbed, changed in Python."""

from __future__ import annotations

import time

import fetcher
import pytest

from testbed import Lab, load
from testbed.topology import with_function

FORGETFUL = with_function(load("idle-timeout"), "nat", "nat", idle_timeout=0.5)


@pytest.mark.topology(FORGETFUL)
def test_a_forgotten_connection_is_opened_again(served: Lab) -> None:
    client = fetcher.Client(served["server"].address, patience=1.0)
    assert served["client"].call(client.fetch, 10) == fetcher.content(10)
    time.sleep(1.0)  # longer than the NAT remembers: the one wait that is the point of a test
    with pytest.raises(TimeoutError):
        served["client"].call(client.fetch, 10)
    client.patience = 10.0
    assert served["client"].call(client.fetch, 10) == fetcher.content(10)
    assert served["nat"].functions()["nat"].counters["sessions"] >= 2
    client.close()
