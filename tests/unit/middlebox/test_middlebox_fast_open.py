"""TCP Fast Open forwarded, dropped and stripped, and the statistics of a router about it."""

from __future__ import annotations

import json
import struct

import pytest
from box_bench import CLIENT_ISN, SERVER_ISN, Bench
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX

from testbed.errors import LabError
from testbed.middlebox.statistics import TcpStatistics, check_kind, tcp_statistics
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key

COOKIE = bytes(range(8))
REQUEST = b"\x22\x02\x01\x01"
WITH_COOKIE = b"\x22\x0a" + COOKIE + b"\x01\x01"
OLD_REQUEST = b"\xfe\x04\xf9\x89"
OLD_COOKIE = b"\xfe\x0c\xf9\x89" + COOKIE
OTHER_EXPERIMENT = b"\xfe\x04\x12\x34"
DATA = b"GET / HTTP/1.0\r\n\r"  # an odd number of bytes


def box(**options: object) -> Bench:
    return Bench(("fast-open", options))


def counts(bench: Bench) -> dict[str, int]:
    return {
        name: count
        for name, count in bench.pipeline.functions["fast-open"].counters.items()
        if count
    }


def statistics(bench: Bench) -> TcpStatistics:
    function = bench.pipeline.functions["fast-open"]
    return tcp_statistics("ms-2/3/0", "ss2", [function.counters])


def syn(key: bytes, option: bytes, payload: bytes = b"") -> bytearray:
    options = LINUX.encode() + option
    return tcp_segment(key, seq=CLIENT_ISN, flags=SYN, options=options, payload=payload)


def syn_ack(key: bytes, option: bytes, payload: bytes = b"") -> bytearray:
    return tcp_segment(
        reverse_key(key),
        seq=SERVER_ISN,
        ack=CLIENT_ISN + 1,
        flags=SYN | ACK,
        options=LINUX.encode() + option,
        payload=payload,
    )


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


@pytest.mark.parametrize(
    ("option", "counter"),
    [
        (REQUEST, "tfo-syn-with-cookie-request"),
        (OLD_REQUEST, "tfo-syn-with-cookie-request"),
        (WITH_COOKIE, "tfo-syn-with-cookie"),
        (OLD_COOKIE, "tfo-syn-with-cookie"),
    ],
)
def test_what_a_syn_carries_is_counted_and_forwarded_untouched(key, option, counter):
    bench = box()
    packet = syn(key, option, DATA)
    (seen,) = bench.put(OUTSIDE, packet)
    assert seen.transport == bytes(packet[-len(seen.transport) :]) and seen.right
    assert counts(bench) == {counter: 1, "tfo-packets-forwarded": 1}


@pytest.mark.parametrize("option", [WITH_COOKIE, OLD_COOKIE])
def test_a_cookie_on_a_syn_ack_is_counted(key, option):
    bench = box()
    bench.put(OUTSIDE, syn(key, b""))
    bench.put(INSIDE, syn_ack(key, option))
    assert counts(bench) == {"tfo-syn-ack-with-cookie": 1, "tfo-packets-forwarded": 1}


@pytest.mark.parametrize("option", [REQUEST, OLD_REQUEST, WITH_COOKIE, OLD_COOKIE])
def test_drop_drops_both_kinds_of_the_option_and_nothing_else(key, option):
    bench = box(mode="drop")
    assert bench.put(OUTSIDE, syn(key, option)) == []
    assert bench.put(INSIDE, syn_ack(key, option)) == []
    assert bench.dropped == {"fast-open": 2}
    assert counts(bench)["tfo-packets-dropped"] == 2
    for other in (b"", OTHER_EXPERIMENT):
        assert len(bench.put(OUTSIDE, syn(key, other, DATA))) == 1
        assert len(bench.put(INSIDE, syn_ack(key, other))) == 1


@pytest.mark.parametrize("option", [REQUEST, OLD_REQUEST, WITH_COOKIE, OLD_COOKIE, b""])
@pytest.mark.parametrize("payload", [DATA, DATA[1:], b"\0\0\0"])
def test_strip_takes_option_and_data_away_with_right_lengths_and_checksums(key, option, payload):
    bench = box(mode="strip")
    (seen,) = bench.put(OUTSIDE, syn(key, option, payload))
    assert seen.right and seen.payload == b"" and set(seen.options) == {2, 3, 4, 8}
    assert seen.seq == CLIENT_ISN and len(seen.data) == {4: 20, 6: 40}[seen.version] + 40 + len(
        option
    )
    at = 2 if seen.version == 4 else 4
    total = len(seen.data) - (0 if seen.version == 4 else 40)
    assert struct.unpack_from("!H", seen.data, at) == (total,)
    (answer,) = bench.put(INSIDE, syn_ack(key, option, payload))
    assert answer.right and answer.payload == b"" and set(answer.options) == {2, 3, 4, 8}
    assert counts(bench)["tfo-packets-stripped"] == 2


def test_strip_leaves_alone_what_is_no_fast_open(key):
    bench = box(mode="strip")
    for packet in (syn(key, OTHER_EXPERIMENT), syn(key, b"")):
        (seen,) = bench.put(OUTSIDE, packet)
        assert seen.transport == bytes(packet[-len(seen.transport) :])
    data = tcp_segment(key, seq=CLIENT_ISN + 1, ack=1, flags=ACK, options=REQUEST, payload=DATA)
    (seen,) = bench.put(OUTSIDE, data)  # the option counts only where there is a SYN
    assert seen.payload == DATA and 34 in seen.options
    assert counts(bench) == {}


def test_a_wrong_checksum_stays_wrong(key):
    packet = syn(key, WITH_COOKIE, DATA)
    packet[-1] ^= 0x40
    (seen,) = box(mode="strip").put(OUTSIDE, packet)
    assert not seen.right


def test_the_mode_changes_while_traffic_runs(key):
    bench = box()
    assert len(bench.put(OUTSIDE, syn(key, REQUEST))) == 1
    bench.pipeline.set_options("fast-open", {"mode": "drop"})
    assert bench.put(OUTSIDE, syn(key, REQUEST)) == []
    bench.pipeline.switch("fast-open", False)
    assert len(bench.put(OUTSIDE, syn(key, REQUEST))) == 1
    assert counts(bench)["tfo-syn-with-cookie-request"] == 2


# The statistics


HEAD = """\
Interface: ms-2/3/0
Service set: ss2
TCP open/close statistics:
TCP first packet non-syn: 0
TCP first packet reset: 0
TCP first packet FIN: 0
TCP non syn discard: 0
TCP extension alloc fail: 0
"""
TAIL = {
    # The printed example of the default mode has "forwarded: 0, dropped: 1", word for word that of
    # the next one, and so against its own text, by which this mode forwards all such packets.
    "forward": """\
TFO SYN with cookie request: 1
TFO SYN with cookie: 0
TFO SYN ACK with cookie: 0
TFO packets forwarded: 1
TFO packets dropped: 0
TFO packets stripped: 0""",
    "drop": """\
TFO SYN with cookie request: 1
TFO SYN with cookie: 0
TFO SYN ACK with cookie: 0
TFO packets forwarded: 0
TFO packets dropped: 1
TFO packets stripped: 0""",
    "strip": """\
TFO SYN with cookie request: 1
TFO SYN with cookie: 0
TFO SYN ACK with cookie: 0
TFO packets forwarded: 0
TFO packets dropped: 0
TFO packets stripped: 1""",
}


@pytest.mark.parametrize("mode", TAIL)
def test_the_documents_examples_come_out_line_by_line(key, mode):
    """One client asks a server that does not know Fast Open for a cookie."""
    bench = box(mode=mode)
    bench.put(OUTSIDE, syn(key, REQUEST))
    if mode == "drop":
        bench.put(OUTSIDE, syn(key, b""))  # what Linux sends when it must send again
    bench.put(INSIDE, syn_ack(key, b""))
    bench.put(OUTSIDE, tcp_segment(key, seq=CLIENT_ISN + 1, ack=SERVER_ISN + 1, flags=ACK))
    assert statistics(bench).render() == HEAD + TAIL[mode]


def test_statistics_as_json_and_of_several_functions():
    summed = tcp_statistics("outside", "box", [{"non-syn-discard": 2, "x": 9}] * 2)
    assert json.loads(summed.to_json())["non_syn_discard"] == 4
    assert json.loads(summed.to_json())["service_set"] == "box"


def test_another_kind_of_statistics_is_refused():
    check_kind("tcp")
    with pytest.raises(LabError, match=r"no 'tpc' statistics; .*did you mean 'tcp'\?"):
        check_kind("tpc")


# Flows


FIRST = {
    "first-packet-reset": RST,
    "first-packet-fin": FIN | ACK,
    "first-packet-non-syn": ACK,
}


@pytest.mark.parametrize("counter", FIRST)
@pytest.mark.parametrize("non_syn", ["forward", "drop"])
def test_a_first_packet_that_opens_nothing(key, counter, non_syn):
    bench = box(non_syn=non_syn)
    seen = bench.put(OUTSIDE, tcp_segment(key, seq=5, ack=6, flags=FIRST[counter]))
    if non_syn == "drop":
        assert seen == [] and bench.dropped == {"non-syn": 1}
        assert counts(bench) == {counter: 1, "non-syn-discard": 1}
    else:
        assert len(seen) == 1 and counts(bench) == {counter: 1}


def test_a_reset_of_no_flow_leaves_no_flow(key):
    bench = box()
    bench.put(OUTSIDE, tcp_segment(key, seq=5, flags=RST))
    bench.put(OUTSIDE, tcp_segment(key, seq=5, flags=RST))
    assert counts(bench) == {"first-packet-reset": 2}


def test_only_the_first_packet_of_a_flow_is_counted(key):
    bench = box()
    for side, one in ((OUTSIDE, key), (INSIDE, reverse_key(key)), (OUTSIDE, key)):
        bench.put(side, tcp_segment(one, seq=5, ack=6, flags=ACK))
    assert counts(bench) == {"first-packet-non-syn": 1}


def numbered(number: int) -> bytes:
    return IPV4_KEY[:8] + struct.pack("!HH", number, 80)


def test_without_room_a_flow_goes_untracked_until_one_ends_or_is_idle():
    bench = box(flow_limit=2, idle_timeout=100.0)
    for number in (1, 2, 3):
        assert len(bench.put(OUTSIDE, syn(numbered(number), b""))) == 1
    assert counts(bench) == {"extension-alloc-fail": 1}
    bench.put(
        INSIDE, tcp_segment(reverse_key(numbered(2)), seq=0, ack=CLIENT_ISN + 1, flags=RST | ACK)
    )
    bench.put(OUTSIDE, syn(numbered(4), b""))  # in the place of 2, though 1 is older
    assert counts(bench) == {"extension-alloc-fail": 1}
    bench.put(OUTSIDE, tcp_segment(numbered(1), seq=1, flags=ACK))
    assert counts(bench) == {"extension-alloc-fail": 1}  # 1 is still known
    bench.wait(60)
    bench.put(OUTSIDE, tcp_segment(numbered(4), seq=1, flags=ACK))
    bench.wait(60)
    bench.put(OUTSIDE, syn(numbered(5), b""))  # in the place of 1, idle for 120 s
    assert counts(bench) == {"extension-alloc-fail": 1}
    bench.put(OUTSIDE, tcp_segment(numbered(1), seq=1, flags=ACK))
    assert counts(bench) == {"extension-alloc-fail": 2, "first-packet-non-syn": 1}


def test_both_fins_end_a_flow_and_a_syn_begins_it_anew():
    bench = box(flow_limit=1)
    one, other = numbered(1), numbered(2)
    first = (CLIENT_ISN + 1) % (1 << 32)
    bench.put(OUTSIDE, syn(one, b""))
    bench.put(OUTSIDE, tcp_segment(one, seq=first, ack=SERVER_ISN + 1, flags=FIN | ACK))
    bench.put(OUTSIDE, syn(other, b""))
    assert counts(bench)["extension-alloc-fail"] == 1  # half closed is not ended
    bench.put(
        INSIDE, tcp_segment(reverse_key(one), seq=SERVER_ISN + 1, ack=first + 1, flags=FIN | ACK)
    )
    bench.put(OUTSIDE, syn(one, b""))
    bench.put(OUTSIDE, syn(other, b""))
    assert counts(bench)["extension-alloc-fail"] == 2
    bench.put(OUTSIDE, tcp_segment(one, seq=first, flags=RST))
    bench.put(OUTSIDE, syn(other, b""))
    assert counts(bench)["extension-alloc-fail"] == 2


def test_a_hundred_thousand_syns_do_not_fill_the_memory():
    bench = box(flow_limit=1000)
    template = syn(numbered(0), b"")
    for number in range(100_000):
        struct.pack_into("!I", template, 12, number)
        bench.pipeline.receive(OUTSIDE, bytearray(template), len(template))
    gauges = bench.pipeline.functions["fast-open"].gauges()
    assert gauges == {"now-flows": 1000}
    assert bench.pipeline.counters().missing == 0
    assert counts(bench) == {"extension-alloc-fail": 99_000}
