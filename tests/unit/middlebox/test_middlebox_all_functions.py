"""Every function, at its worst: hostile packets do no harm to it, nor it to them.

A new function joins by an entry in `AT_WORK`, which makes it do all that it can.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from box_bench import Bench, size_of
from hostile_packets import corpus, harmed, reply_to, right
from packet_bench import IPV4_KEY, LINUX, checksums_are_right

from testbed.middlebox.registry import functions
from testbed.wire.checksum import adjust_checksum
from testbed.wire.craft import tcp_segment
from testbed.wire.edit import add_to_field
from testbed.wire.flags import ACK, SYN
from testbed.wire.packet import INSIDE, OUTSIDE

LIMIT = 50  # of every table of the functions below
AT_WORK: dict[str, dict[str, Any]] = {
    "ack-thinner": {"connection_limit": LIMIT},
    "ecn-black-hole": {"drop": "capable"},
    "ecn-bleach": {},
    "firewall": {
        "half_open_limit": LIMIT,
        "connection_limit": LIMIT,
        "strict_windows": True,
        "reject": "icmp",
    },
    "fast-open": {"mode": "strip", "non_syn": "drop", "flow_limit": LIMIT},
    "flow-disorder": {"every": 2, "connection_limit": LIMIT},
    "fragments": {"limit": 4, "datagram_limit": LIMIT, "memory_limit": 1 << 17},
    "nat": {"pool": ["192.0.2.1", "2001:db8::1"], "session_limit": LIMIT},
    "options": {
        "strip": ["sack", "timestamps", "tfo", "mptcp", "unknown"],
        "rewrite": {"window-scale": 1},
        "mss_clamp": 100,
    },
    "pep": {"connection_limit": LIMIT},
    "pmtu-black-hole": {"mtu": 500, "icmp": "send"},
    "reset-injector": {"connection_limit": LIMIT},
    "sequence-randomiser": {"connection_limit": LIMIT},
    "setup-proxy": {"half_open_limit": LIMIT, "connection_limit": LIMIT},
    "trace-log": {"flags": ["all"], "size": 10_000},
    "window-scale-mangler": {"direction": "both"},
}
# Other ways of working, as (function, options).
ALSO: dict[str, tuple[str, dict[str, Any]]] = {
    # Its public addresses are those that the corpus talks to from inside.
    "nat, open, hairpinning": (
        "nat",
        {
            "pool": ["10.0.1.1", "2001:db8:1::1"],
            "filtering": "endpoint-independent",
            "session_limit": LIMIT,
        },
    ),
    "setup-proxy with cookies": ("setup-proxy", AT_WORK["setup-proxy"] | {"cookies": True}),
}
CASES = {name: (name, options) for name, options in AT_WORK.items()} | ALSO
PACKETS = 100_000
CORPUS = corpus("hostile", 8000)
SYNS = 100_000
# Under which counter, or cause of a drop, a function tells that its table was full; None for
# those that remember nothing of a SYN.
FULL: dict[str, str | None] = {
    "ack-thinner": "evicted",
    "ecn-black-hole": None,
    "ecn-bleach": None,
    "firewall": "half-open-limit",
    "fast-open": "extension-alloc-fail",
    "flow-disorder": "evicted",
    "fragments": None,
    "nat": "evicted",
    "nat, open, hairpinning": "evicted",
    "options": None,
    "pep": "evicted",
    "pmtu-black-hole": None,
    "reset-injector": "evicted",
    "sequence-randomiser": "evicted",
    "setup-proxy": "evicted-opening",
    "setup-proxy with cookies": None,
    "trace-log": None,
    "window-scale-mangler": None,
}


def test_every_function_is_in_the_tables():
    assert AT_WORK.keys() == functions().keys()
    assert FULL.keys() == CASES.keys()


def test_the_corpus_is_hostile_and_its_judge_is_right():
    sound = [case.data for case in CORPUS if case.sound]
    assert len(CORPUS) / 2 < len(sound) < len(CORPUS) * 0.9
    plain = [data for data in sound if _is_plain_tcp(data)]
    assert len(plain) > 1000 and all(map(checksums_are_right, plain))
    for data in plain[:300]:
        wrong = bytearray(data)
        wrong[-1] ^= 1
        assert not right(wrong)


def _is_plain_tcp(data: bytes) -> bool:
    """Whether it is a whole segment behind an IP header of the usual length."""
    if data[0] >> 4 == 6:
        return data[6] == 6
    return data[0] == 0x45 and data[9] == 6 and not (data[6] & 0x3F or data[7]) and len(data) > 39


@pytest.mark.parametrize("case", CASES)
def test_hostile_packets_do_no_harm(case):
    name, options = CASES[case]
    rng = random.Random(case)
    bench = Bench((name, options))
    receive, sent = bench.pipeline.receive, bench.sent
    damaged: set[bytes] = set()  # those a function may have kept, and let go with another one
    recent: list[tuple[Any, bytes]] = []
    changes, sizes = 0, []
    for number in range(PACKETS):
        chance = rng.random()
        side, data, sound = CORPUS[int(chance * 8e6) % len(CORPUS)]
        if chance < 0.15:
            data, sound = bytes(harmed(rng, bytearray(data))), False
        elif chance < 0.3 and recent:
            side, data = recent[number % len(recent)]
            data, sound = reply_to(data, rng), True
        if not sound:
            damaged.add(data[12:])
        sent.clear()
        receive(side, bytearray(data), len(data))
        for _, seen in sent:
            if sound and not right(seen):
                assert bytes(seen[12:]) in damaged, (data.hex(), seen.hex())
            changes += data[12:] != seen[12:]
        if sound and sent and number % 3 == 0:
            side, seen = sent[-1]
            recent = [*recent[-20:], (side, bytes(seen))]
        if number % 500 == 0:
            for seen in bench.wait(rng.choice([0.1, 1.0, 10.0])):
                assert right(seen.data) or bytes(seen.data[12:]) in damaged
        if number in (PACKETS // 5, PACKETS - 1):
            sent.clear()
            sizes.append(size_of(bench))
    assert bench.pipeline.counters().missing == 0
    assert changes + sum(bench.dropped.values()) > PACKETS / 50  # the table makes it work
    assert sizes[1] < 1.3 * sizes[0] + 50_000, sizes


@pytest.mark.parametrize("case", [case for case in CASES if FULL[case]])
def test_a_flood_of_syns_from_everywhere_is_survived(case):
    """Tables stay within their limits, and what was forgotten or refused for it is counted."""
    name, options = CASES[case]
    bench = Bench((name, options))
    function = bench.pipeline.functions[name]
    side = INSIDE if name == "nat" else OUTSIDE
    syn = tcp_segment(IPV4_KEY, seq=1, flags=SYN, options=LINUX.encode())
    ack = tcp_segment(IPV4_KEY, seq=2, ack=3, flags=ACK, window=9)
    data = tcp_segment(IPV4_KEY, seq=2, ack=3, flags=ACK, window=9, payload=b"x")
    sizes = []
    for number in range(SYNS):
        # Some functions look only at what follows; one source in four pretends to go on.
        for template in (syn, ack, data) if number % 4 == 0 else (syn,):
            buffer = bytearray(template)
            change = add_to_field(buffer, 12, number, 0)
            adjust_checksum(buffer, 10, change)
            adjust_checksum(buffer, 36, change)
            bench.pipeline.receive(side, buffer, len(buffer))
            bench.sent.clear()
        if number in (SYNS // 10, SYNS - 1):
            sizes.append(size_of(bench))
    gauges = function.gauges()
    most = 2 * LIMIT if name == "nat" else LIMIT  # it also keeps mappings that nobody uses now
    assert all(value <= most for value in gauges.values()), gauges
    counted = Counter(function.counters) + Counter(bench.dropped)
    assert counted[FULL[case]] >= SYNS / 4 - 3 * LIMIT, counted
    assert len(bench.timers) < 10 * LIMIT and bench.pipeline.counters().held <= LIMIT
    assert bench.pipeline.counters().missing == 0
    assert sizes[1] < 1.3 * sizes[0] + 50_000, sizes
