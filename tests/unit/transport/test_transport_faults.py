"""Each fault changes what is on the wire, and nothing else breaks."""

from __future__ import annotations

import random

import pytest
from tcp_pair import Pair

from testbed.transport.faults import fault_names

DATA = random.Random(0).randbytes(200_000)
# After these the connection carries other bytes, or none.
DAMAGING = {"inconsistent-retransmission"}


def test_there_are_eighteen():
    assert len(fault_names()) == 18


@pytest.mark.parametrize("name", fault_names())
def test_data_still_arrives(name: str):
    pair = Pair(name)
    chance = random.Random(1)
    pair.judge = lambda seen: [0.0] if chance.random() > 0.01 else []
    client, server = pair.open()
    got = pair.transfer(client, server, DATA)
    assert len(got) == len(DATA)
    assert (got == DATA) is (name not in DAMAGING)
    if name != "no-rst-after-half-duplex-close":
        assert len(pair.transfer(server, client, DATA)) == len(DATA)
