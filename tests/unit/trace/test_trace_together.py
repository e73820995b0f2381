"""The classes of a whole capture at once are those of each connection."""

from __future__ import annotations

import random

import numpy as np
import pytest


@pytest.mark.parametrize("seed", range(6))
def test_all_connections_at_once_or_one_by_one(talk, read, seed):
    chance = random.Random(seed)
    packets = []
    for number in range(12):
        t = talk(client=("10.0.0.1", 40000 + number), client_isn=chance.randrange(2**32))
        t.handshake(at=number * 0.3)
        acked = 1
        for step in range(30):
            at = 20 + number * 0.3 + step * 5
            kind = chance.random() if number % 3 else 0.0
            seq = max(1, acked - 100) if kind > 0.9 else acked
            t.client(at, "A", seq, 1, 1 if kind > 0.97 else 100)
            acked = max(acked, seq + 100)
            if kind > 0.8:
                t.again()
            t.server(at + 1, "A", 1, acked, window=0 if 0.5 < kind < 0.55 else 502)
        packets += t.packets
    trace = read(packets)
    one_by_one = np.zeros(len(trace.table), np.uint8)
    numbers = trace.table.number
    for connection in trace.connections:
        rows = np.searchsorted(numbers, connection.table.number)
        one_by_one[rows] = connection.analysis.classes
    assert trace.classes.tolist() == one_by_one.tolist()
    assert len(np.unique(trace.classes)) > 4
