"""Options taken away, rewritten and clamped, and the mangled window scale."""

from __future__ import annotations

import struct

import pytest
from box_bench import Bench, Seen
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.errors import LabError
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, Side, reverse_key

TFO = b"\x22\x0aCOOKIEOK\x01\x01"
MPTCP = b"\x1e\x04\x00\x81"
USER_TIMEOUT = b"\x1c\x04\x00\x01"  # RFC 5482
SACK_BLOCK = b"\x01\x01\x05\x0a" + struct.pack("!II", 1000, 2000)
STAMPS = HandshakeOptions(timestamps=(5, 6)).encode()


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def through(
    bench: Bench,
    key: bytes,
    options: bytes,
    *,
    flags: int = SYN,
    side: Side = OUTSIDE,
    payload: bytes = b"",
) -> Seen:
    way = key if side is OUTSIDE else reverse_key(key)
    data = tcp_segment(way, seq=1, ack=2, flags=flags, window=3, options=options, payload=payload)
    (seen,) = bench.put(side, data)
    assert seen.right and seen.side is side.other and seen.payload == payload
    return seen


def counters(bench: Bench, name: str = "options") -> dict[str, int]:
    return dict(bench.pipeline.functions[name].counters)


SYN_OPTIONS = LINUX.encode() + TFO + MPTCP + USER_TIMEOUT  # 40 bytes


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mss", 2),
        ("window-scale", 3),
        ("sack", 4),
        ("timestamps", 8),
        ("mptcp", 30),
        ("tfo", 34),
        ("unknown", 28),
    ],
)
def test_one_option_is_stripped_and_the_others_stay(key, name, kind):
    plain = through(Bench(), key, SYN_OPTIONS)
    bench = Bench(("options", {"strip": [name]}))
    seen = through(bench, key, SYN_OPTIONS)
    assert kind in plain.options
    assert seen.options == {k: v for k, v in plain.options.items() if k != kind}
    assert counters(bench) == {f"stripped-{name}": 1}


def test_sack_blocks_and_timestamps_go_from_every_segment(key):
    bench = Bench(("options", {"strip": ["sack", "timestamps"]}))
    seen = through(bench, key, STAMPS + SACK_BLOCK, flags=ACK, side=INSIDE, payload=b"abc")
    assert seen.options == {}
    assert counters(bench) == {"stripped-sack": 1, "stripped-timestamps": 1}


def test_the_mss_is_clamped_and_never_raised(key):
    bench = Bench(("options", {"mss_clamp": 1360}))
    for offered, expected in ((1460, 1360), (1360, 1360), (500, 500)):
        for flags, side in ((SYN, OUTSIDE), (SYN | ACK, INSIDE)):
            options = HandshakeOptions(mss=offered, sack=True).encode()
            seen = through(bench, key, options, flags=flags, side=side)
            assert seen.options == {2: struct.pack("!H", expected), 4: b""}
    assert counters(bench) == {"clamped-mss": 2}


def test_values_are_rewritten_wherever_the_option_stands(key):
    bench = Bench(("options", {"rewrite": {"window-scale": 2, "mss": 900}, "mss_clamp": 500}))
    for padding in (b"", b"\x01", b"\x01\x01"):
        options = padding + b"\x03\x03\x07" + b"\x02\x04\x05\xb4"
        seen = through(bench, key, options + b"\0" * (-len(options) % 4))
        assert seen.options == {3: b"\x02", 2: struct.pack("!H", 900)}
    assert counters(bench) == {"rewritten-window-scale": 3, "rewritten-mss": 3}


def test_only_the_direction_asked_for_is_changed(key):
    bench = Bench(("options", {"strip": ["sack"], "direction": "outward"}))
    assert 4 in through(bench, key, LINUX.encode()).options
    assert 4 not in through(bench, key, LINUX.encode(), flags=SYN | ACK, side=INSIDE).options


def test_it_is_set_and_switched_while_traffic_runs(key):
    bench = Bench(("options", {}))
    assert through(bench, key, SYN_OPTIONS).options.keys() >= {2, 3, 4, 8}
    bench.pipeline.set_options("options", {"strip": ["timestamps"]})
    assert 8 not in through(bench, key, SYN_OPTIONS).options
    bench.pipeline.set_options("options", {"rewrite": {"window-scale": 1}})
    seen = through(bench, key, SYN_OPTIONS)
    assert seen.options[3] == b"\x01" and 8 not in seen.options
    bench.pipeline.switch("options", False)
    assert through(bench, key, SYN_OPTIONS).options[3] == b"\x07"


@pytest.mark.parametrize(
    "options",
    [
        {"strip": ["sak"]},
        {"rewrite": {"window-scale": 15}},
        {"rewrite": {"scale": 1}},
        {"mss_clamp": 10},
        {"direction": "up"},
    ],
)
def test_what_is_impossible_is_refused(options):
    with pytest.raises(LabError, match="cannot take these options"):
        Bench(("options", options))


def test_an_impossible_option_list_is_left_alone_from_there_on():
    bench = Bench(("options", {"strip": ["sack", "timestamps"]}))
    seen = through(bench, IPV4_KEY, b"\x04\x02\x08\x00" + b"\x08\x0a" + bytes(10))
    assert seen.transport[20:26] == b"\x01\x01\x08\x00\x08\x0a"


def test_the_mangler_zeroes_one_sides_scale_and_no_window(key):
    bench = Bench(("window-scale-mangler", {}))
    syn = through(bench, key, LINUX.encode())
    answer = through(bench, key, LINUX.encode(), flags=SYN | ACK, side=INSIDE)
    assert syn.options[3] == b"\x00" and answer.options[3] == b"\x07"
    assert syn.window == 3
    bench.pipeline.set_options("window-scale-mangler", {"direction": "outward", "scale": 14})
    syn = through(bench, key, LINUX.encode())
    answer = through(bench, key, LINUX.encode(), flags=SYN | ACK, side=INSIDE)
    assert syn.options[3] == b"\x07" and answer.options[3] == b"\x0e"
    assert counters(bench, "window-scale-mangler") == {"mangled": 2}
    through(bench, key, b"\x01\x03\x03\x07", flags=ACK, side=INSIDE)  # in no SYN: not an option
    assert counters(bench, "window-scale-mangler") == {"mangled": 2}
