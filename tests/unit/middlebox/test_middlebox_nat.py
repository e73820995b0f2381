"""Source NAT: what is translated, to which endpoint, and for how long."""

from __future__ import annotations

import struct

import pytest
from box_bench import Bench
from nat_bench import (
    POOL,
    Flow,
    NatBench,
    destination_of,
    echo,
    error,
    flow,
    inside,
    ip,
    ports_of,
    server,
    source_of,
    tcp,
    udp,
)
from packet_bench import loaded
from scapy.layers import inet
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from testbed.errors import LabError
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


# Translation


@pytest.mark.parametrize("make", [lambda one: tcp(one, SYN, b"x" * 7), udp], ids=["tcp", "udp"])
def test_a_packet_goes_out_with_a_public_source_and_its_answer_comes_back(version, make):
    bench = NatBench()
    one = flow(version)
    seen = bench.out(make(one))
    assert source_of(seen) == POOL[version][0] and destination_of(seen) == one.destination
    assert ports_of(seen) == (5000, 80)
    whole = make(one)
    assert seen.transport[8:16] == bytes(whole[-len(seen.transport) + 8 :][:8])  # nothing else
    public = Flow(source_of(seen), 5000, one.destination)
    answer = bench.back(make(public.back))
    assert destination_of(answer) == one.source and source_of(answer) == one.destination
    assert ports_of(answer) == (80, 5000)


@pytest.mark.parametrize("transport", [inet.TCP, inet.UDP])
def test_headers_behind_options_are_translated_too(version, transport):
    bench = NatBench()
    one = flow(version)

    def longer(source: str, destination: str, sport: int, dport: int) -> bytes:
        if version == 4:
            header = inet.IP(src=source, dst=destination, options=[b"\x94\x04\x00\x00"])
        else:
            header = IPv6(src=source, dst=destination) / IPv6ExtHdrHopByHop()
        flags = {"flags": "S" if sport == one.port else "SA"} if transport is inet.TCP else {}
        return bytes(header / transport(sport=sport, dport=dport, **flags) / Raw(b"data"))

    ends = (one.source, one.destination, one.port, one.to_port)
    public = POOL[version][0]
    for side, data, wanted in (
        (INSIDE, longer(*ends), (public, one.destination, 5000, 80)),
        (OUTSIDE, longer(one.destination, public, 80, 5000), (*ends[1::-1], 80, 5000)),
    ):
        (seen,) = bench.put(side, data)
        read = (inet.IP if version == 4 else IPv6)(bytes(seen.data))
        found = read[transport]
        assert (read.src, read.dst, found.sport, found.dport) == wanted
        assert loaded(seen.data).checksum_is_right()


def test_an_echo_request_gets_a_public_identifier_and_its_reply_comes_back(version):
    bench = NatBench(pool=[POOL[version][0]])
    seen = {}
    for host in (1, 2):
        out = bench.out(echo(flow(version, host), identifier=2077))
        seen[host] = struct.unpack_from("!H", out.transport, 4)[0]
        assert source_of(out) == POOL[version][0]
    assert seen[1] == 2077 != seen[2]
    for host, public in seen.items():
        reply = Flow(server(version), 0, POOL[version][0])
        back = bench.back(echo(reply, identifier=public, reply=True))
        assert destination_of(back) == inside(version, host)
        assert struct.unpack_from("!H", back.transport, 4) == (2077,)


def test_a_udp_checksum_of_zero_is_none_and_stays_so():
    bench = NatBench()
    data = udp(flow(4))
    data[26:28] = b"\0\0"
    (seen,) = bench.put(INSIDE, data)
    assert seen.transport[6:8] == b"\0\0" and source_of(seen) == POOL[4][0]


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones(version):
    bench = NatBench()
    one = flow(version)
    out = bench.out(udp(one, b"\0\0"))
    (checksum,) = struct.unpack_from("!H", out.transport, 6)
    seen = bench.out(udp(one, struct.pack("!H", checksum)))
    assert seen.transport[6:8] == b"\xff\xff"


@pytest.mark.parametrize("make", [lambda one: tcp(one, SYN), udp], ids=["tcp", "udp"])
def test_a_wrong_checksum_stays_wrong(version, make):
    data = make(flow(version))
    data[-1] ^= 1
    (seen,) = NatBench().put(INSIDE, data)
    assert not seen.right and source_of(seen) == POOL[version][0]


def test_functions_further_out_see_the_public_key(version):
    bench = Bench(("fast-open", {"non_syn": "drop"}), ("nat", {"pool": [POOL[version][0]]}))
    one = flow(version)
    bench.put(INSIDE, tcp(one, SYN))
    public = Flow(POOL[version][0], 5000, one.destination)
    assert len(bench.put(OUTSIDE, tcp(public.back, SYN | ACK))) == 1
    assert bench.pipeline.functions["fast-open"].counters == {}


# Who is let in


def test_nobody_else_comes_in(version):
    bench = NatBench()
    public = bench.open(flow(version))
    strangers = [
        Flow(server(version, 9), 80, public.source, public.port),
        Flow(public.destination, 81, public.source, public.port),
        Flow(public.destination, 80, public.source, public.port + 1),
        Flow(public.destination, 80, POOL[version][1], public.port),
    ]
    for stranger in strangers:
        assert bench.back(tcp(stranger, SYN)) is None
    assert bench.back(udp(public.back)) is None  # of another protocol
    assert bench.back(echo(public.back, identifier=public.port)) is None
    assert bench.dropped == {"no-mapping": 6}


def test_what_is_not_for_a_public_address_passes(version):
    bench = NatBench()
    one = Flow(server(version), 80, inside(version), 5000)
    assert destination_of(bench.back(tcp(one, SYN))) == inside(version)


@pytest.mark.parametrize("flags", [ACK, RST, FIN | ACK, SYN | ACK])
def test_a_segment_that_opens_nothing_does_not_go_out(version, flags):
    bench = NatBench()
    assert bench.out(tcp(flow(version), flags)) is None
    assert bench.dropped == {"no-session": 1} and bench.sessions == 0


def test_what_cannot_be_translated_does_not_go_out_with_a_private_address(version):
    bench = NatBench()
    one = flow(version)
    fragment = tcp(one, SYN)
    if version == 4:
        fragment[6] = 0x20
    else:
        fragment = ip(one.addresses, 44, bytes((6, 0, 0, 1)) + bytes(24))
    strange = [
        fragment,
        ip(one.addresses, 50, bytes(20)),
        echo(one, identifier=1, reply=True),
        ip(
            one.addresses, {4: 1, 6: 58}[version], bytes((13 if version == 4 else 141,)) + bytes(19)
        ),
    ]
    for data in strange:
        assert bench.put(INSIDE, data) == []
    assert bench.dropped == {"untranslatable": 4}


def test_a_family_without_a_pool_is_not_translated():
    bench = NatBench(pool=[POOL[4][0]])
    assert source_of(bench.out(tcp(flow(6), ACK))) == inside(6)
    assert source_of(bench.out(tcp(flow(4), SYN))) == POOL[4][0]


# Public endpoints


def test_a_port_that_is_taken_is_replaced_and_never_shared(version):
    bench = NatBench(pool=[POOL[version][0]], ports="5000-5003")
    given = [bench.send(tcp(flow(version, host), SYN))[1] for host in (1, 2, 3, 4)]
    assert given[0] == 5000 and sorted(given) == [5000, 5001, 5002, 5003]
    assert bench.send(udp(flow(version, 5))) == (POOL[version][0], 5000)  # UDP has its own
    assert bench.out(tcp(flow(version, 5), SYN)) is None
    assert bench.dropped == {"ports-exhausted": 1} and bench.counted["ports-exhausted"] == 1
    assert bench.nat.gauges()["now-sessions"] == 5


def test_ports_that_became_free_are_found_again(version):
    bench = NatBench(
        pool=[POOL[version][0]], mapping="endpoint-dependent", udp_timeout=10.0, ports="1-3"
    )
    assert bench.send(udp(flow(version, 1)))[1] == 1
    bench.wait(5.0)
    assert bench.send(udp(flow(version, 2)))[1] == 2
    assert bench.send(udp(flow(version, 3, port=3)))[1] == 3
    bench.wait(6.0)
    assert bench.send(udp(flow(version, 4)))[1] == 1


def test_a_client_that_gets_no_port_does_not_hold_its_address(version):
    bench = NatBench(pool=[POOL[version][0]], ports="5000-5000", udp_timeout=10.0)
    bench.send(udp(flow(version, 1)))
    assert bench.out(udp(flow(version, 2))) is None
    assert bench.nat.gauges()["now-pairs"] == 2
    bench.wait(400.0)
    assert bench.nat.gauges()["now-pairs"] == 0


def test_a_port_outside_the_range_is_not_kept(version):
    bench = NatBench(ports="6000-6001")
    assert bench.send(tcp(flow(version, port=5000), SYN))[1] in (6000, 6001)
    assert bench.send(tcp(flow(version, port=6002), SYN))[1] in (6000, 6001)


def test_without_pairing_another_address_has_the_ports_that_one_lacks(version):
    bench = NatBench(address_pooling="none", ports="5000-5000")
    given = [
        bench.send(tcp(flow(version, port=port), SYN)) for port in range(1, len(POOL[version]) + 1)
    ]
    assert sorted(given) == [(address, 5000) for address in POOL[version]]
    assert bench.out(tcp(flow(version, port=9), SYN)) is None
    bench = NatBench(address_pooling="paired", ports="5000-5000")
    bench.send(tcp(flow(version, port=1), SYN))
    assert bench.out(tcp(flow(version, port=2), SYN)) is None


@pytest.mark.parametrize("mapping", ["endpoint-independent", "endpoint-dependent"])
def test_one_endpoint_inside_that_talks_to_two_outside(version, mapping):
    bench = NatBench(mapping=mapping)
    first = bench.send(udp(flow(version, to=1)))
    second = bench.send(udp(flow(version, to=2)))
    assert (first == second) == (mapping == "endpoint-independent")
    for to, (address, port) in ((1, first), (2, second)):
        answer = bench.back(udp(Flow(server(version, to), 80, address, port)))
        assert ports_of(answer) == (80, 5000)


def addresses_of_connections(bench: NatBench, version: int, host: int = 1) -> list[str]:
    return [bench.send(tcp(flow(version, host, port), SYN))[0] for port in range(5000, 5004)]


def test_pairing_keeps_the_address_of_a_client_and_its_lack_changes_it(version):
    paired = NatBench(address_pooling="paired")
    assert len(set(addresses_of_connections(paired, version))) == 1
    other = addresses_of_connections(paired, version, host=2)
    assert len(set(other)) == 1 and other[0] == POOL[version][1]  # the next of the pool
    changing = addresses_of_connections(NatBench(address_pooling="none"), version)
    assert set(changing) == set(POOL[version])
    assert all(changing[i] != changing[i + 1] for i in range(3))


@pytest.mark.parametrize("pause", [250.0, 350.0])
def test_the_mapping_timeout_decides_how_long_a_client_keeps_its_address(version, pause):
    bench = NatBench(pool=POOL[version][:2], transitory_timeout=10.0, mapping_timeout=300.0)
    before = bench.send(tcp(flow(version), SYN))
    bench.send(tcp(flow(version, host=2), SYN))
    bench.wait(10.5)
    assert bench.sessions == 0
    bench.wait(pause)
    bench.send(tcp(flow(version, host=3), SYN))  # would get the same address in turn
    after = bench.send(tcp(flow(version), SYN))
    assert (after == before) == (pause < 300)
    assert bench.nat.gauges()["now-pairs"] == (3 if pause < 300 else 2)


def test_a_mapping_that_is_used_again_begins_to_age_anew(version):
    bench = NatBench(udp_timeout=10.0, mapping_timeout=100.0)
    for _ in range(4):
        bench.send(udp(flow(version)))
        bench.wait(90.0)
    assert bench.nat.gauges()["now-mappings"] == 1
    bench.wait(30.0)
    assert bench.nat.gauges() == {"now-sessions": 0, "now-mappings": 0, "now-pairs": 0}


def test_a_mapping_does_not_end_under_a_session_that_uses_it_again(version):
    bench = NatBench(udp_timeout=10.0, mapping_timeout=100.0)
    bench.send(udp(flow(version)))
    bench.wait(90.0)
    for _ in range(5):
        bench.send(udp(flow(version)))
        bench.wait(9.0)
    assert bench.nat.gauges() == {"now-sessions": 1, "now-mappings": 1, "now-pairs": 1}


def test_a_shorter_mapping_timeout_holds_for_mappings_without_sessions(version):
    bench = NatBench(udp_timeout=10.0)
    bench.send(udp(flow(version)))
    bench.wait(20.0)
    bench.pipeline.set_options("nat", {"mapping_timeout": 15.0})
    bench.wait(6.0)
    assert bench.nat.gauges() == {"now-sessions": 0, "now-mappings": 0, "now-pairs": 0}


def test_an_endpoint_dependent_mapping_ends_with_its_session(version):
    bench = NatBench(mapping="endpoint-dependent", udp_timeout=10.0, ports="7-7")
    bench.send(udp(flow(version, host=1)))
    assert bench.out(udp(flow(version, host=1, to=2))) is None
    bench.wait(11.0)
    assert bench.send(udp(flow(version, host=1, to=2)))[1] == 7


def test_an_endpoint_independent_mapping_holds_its_port_until_its_timeout(version):
    bench = NatBench(udp_timeout=10.0, mapping_timeout=50.0, ports="7-7", pool=[POOL[version][0]])
    bench.send(udp(flow(version, host=1)))
    bench.wait(40.0)
    assert bench.out(udp(flow(version, host=2))) is None
    bench.wait(30.0)
    assert bench.send(udp(flow(version, host=2)))[1] == 7


# Time


def test_an_open_connection_ends_by_silence_and_by_nothing_less(version):
    bench = NatBench(idle_timeout=350.0, transitory_timeout=5.0)
    one = flow(version)
    public = bench.open(one)
    for _ in range(3):
        bench.wait(300.0)
        assert bench.out(tcp(one)) is not None
        bench.wait(300.0)
        assert bench.back(tcp(public.back)) is not None
    bench.wait(351.0)
    assert bench.sessions == 0 and bench.counted["timed-out"] == 1
    assert bench.out(tcp(one, payload=b"late")) is None
    assert bench.back(tcp(public.back)) is None
    assert bench.dropped == {"no-session": 1, "no-mapping": 1}


@pytest.mark.parametrize("on_timeout", ["silent", "reset"])
def test_what_a_client_gets_that_goes_on_after_the_timeout(version, on_timeout):
    bench = NatBench(idle_timeout=350.0, on_timeout=on_timeout)
    one = flow(version)
    bench.open(one)
    bench.wait(351.0)
    seen = bench.put(INSIDE, tcp(one, payload=b"late"))
    if on_timeout == "silent":
        assert seen == []
        return
    (answer,) = seen
    assert answer.side is INSIDE and answer.flags == RST and answer.right
    assert answer.key == one.back.key and answer.seq == 1000
    assert bench.put(INSIDE, tcp(one, RST)) == []  # never in answer to a reset
    assert bench.counted["resets-sent"] == 1


def test_a_handshake_and_a_closed_connection_wait_for_the_transitory_timeout(version):
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    bench.send(tcp(flow(version, 1), SYN))
    public = bench.open(flow(version, 2))
    bench.open(flow(version, 3))
    bench.close(flow(version, 2), public)
    bench.wait(19.0)
    assert bench.sessions == 3
    bench.wait(2.0)
    assert bench.sessions == 1


def test_a_reset_closes_and_half_closed_is_not_closed(version):
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    first, second = bench.open(flow(version, 1)), bench.open(flow(version, 2))
    assert bench.back(tcp(first.back, RST)) is not None
    assert bench.back(tcp(second.back, FIN | ACK)) is not None
    bench.wait(21.0)
    assert bench.sessions == 1
    assert bench.back(tcp(second.back)) is not None


def test_a_connection_that_is_reset_after_a_long_time_is_not_kept_for_another(version):
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    public = bench.open(flow(version))
    bench.wait(500.0)
    assert bench.back(tcp(public.back, RST)) is not None
    bench.wait(21.0)
    assert bench.sessions == 0


def test_who_was_silent_first_ends_first(version):
    bench = NatBench(udp_timeout=300.0)
    bench.out(udp(flow(version, 1)))
    bench.out(udp(flow(version, 2)))
    bench.wait(200.0)
    bench.out(udp(flow(version, 1)))
    bench.wait(110.0)
    assert bench.sessions == 1
    assert bench.out(udp(flow(version, 1))) is not None and bench.sessions == 1


def test_without_an_answer_a_connection_is_not_open(version):
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    one = flow(version)
    for _ in range(2):  # the second time, on the ports of a closed connection
        bench.send(tcp(one, SYN))
        assert bench.out(tcp(one, ACK)) is not None
        bench.wait(21.0)
        assert bench.sessions == 0
        bench.close(one, bench.open(one))


def test_a_client_may_use_its_port_again_for_the_same_server(version):
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    one = flow(version)
    public = bench.open(one)
    bench.close(one, public)
    assert bench.open(one) == public
    bench.wait(100.0)
    assert bench.sessions == 1  # open again


def test_timeouts_of_udp_and_icmp_are_their_own(version):
    bench = NatBench(udp_timeout=30.0, icmp_timeout=10.0)
    bench.out(udp(flow(version)))
    bench.out(echo(flow(version), identifier=1))
    bench.wait(11.0)
    assert bench.sessions == 1
    bench.wait(20.0)
    assert bench.sessions == 0


# Limits and changes


def test_when_sessions_are_too_many_those_not_open_go_first(version):
    bench = NatBench(session_limit=3)
    public = bench.open(flow(version, 1))
    bench.send(udp(flow(version, 2)))
    bench.send(tcp(flow(version, 3), SYN))
    bench.send(tcp(flow(version, 4), SYN))  # in the place of 3
    bench.send(udp(flow(version, 5)))  # of 4
    bench.send(udp(flow(version, 6)))  # of 2
    assert bench.sessions == 3 and bench.counted["evicted"] == 3
    assert bench.back(tcp(public.back)) is not None
    assert bench.back(udp(Flow(server(version), 80, POOL[version][1], 5000))) is None


def test_a_crowd_of_clients_does_not_fill_the_memory():
    bench = NatBench(session_limit=500)
    for number in range(20_000):
        data = tcp(Flow("10.0.0.1", 5000, server(4)), SYN)
        struct.pack_into("!I", data, 12, (10 << 24) + number)
        bench.pipeline.receive(INSIDE, data, len(data))
    assert bench.nat.gauges()["now-sessions"] == 500
    assert bench.nat.gauges()["now-pairs"] <= 1000
    assert bench.nat.gauges()["now-mappings"] <= 1000
    assert len(bench.timers) < 100 and bench.pipeline.counters().missing == 0


def test_a_disabled_nat_carries_its_sessions_on_and_begins_none(version):
    bench = NatBench()
    one = flow(version)
    public = bench.open(one)
    bench.pipeline.switch("nat", False)
    assert source_of(bench.out(tcp(one))) == public.source
    assert bench.back(tcp(public.back)) is not None
    assert source_of(bench.out(tcp(flow(version, 2), SYN))) == inside(version, 2)
    assert bench.back(tcp(Flow(server(version, 3), 80, public.source, 9), SYN)) is not None


def test_another_pool_serves_new_connections_and_leaves_the_old_ones(version):
    bench = NatBench()
    one = flow(version)
    public = bench.open(one)
    other = POOL[version][-1]
    bench.pipeline.set_options("nat", {"pool": [other], "address_pooling": "paired"})
    assert bench.send(tcp(flow(version, port=5001), SYN))[0] == other
    assert bench.send(tcp(flow(version, to=2), SYN))[0] == other  # the same endpoint, too
    assert bench.send(tcp(one)) == (public.source, public.port)
    assert bench.back(tcp(public.back, RST)) is not None


def test_a_mapping_that_was_replaced_takes_nothing_with_it_when_it_ends(version):
    bench = NatBench(udp_timeout=10.0, mapping_timeout=20.0)
    bench.send(udp(flow(version, to=1)))
    bench.pipeline.set_options("nat", {"pool": [POOL[version][-1]]})
    second = bench.send(udp(flow(version, to=2)))
    for _ in range(5):
        bench.wait(9.0)
        assert bench.send(udp(flow(version, to=2))) == second
    assert bench.nat.gauges() == {"now-sessions": 1, "now-mappings": 1, "now-pairs": 1}
    assert bench.send(udp(flow(version, to=3))) == second


def test_a_lower_limit_holds_at_once(version):
    bench = NatBench()
    for host in range(1, 6):
        bench.send(tcp(flow(version, host), SYN))
    bench.pipeline.set_options("nat", {"session_limit": 2})
    assert bench.sessions == 2 and bench.counted["evicted"] == 3


def test_shorter_timeouts_hold_for_what_is_there(version):
    bench = NatBench()
    bench.open(flow(version))
    bench.pipeline.set_options("nat", {"idle_timeout": 5.0, "mapping_timeout": 5.0})
    bench.wait(6.0)
    assert bench.sessions == 0
    bench.wait(6.0)
    assert bench.nat.gauges()["now-pairs"] == 0


def test_a_pool_of_its_own_is_the_outside():
    bench = Bench(("nat", {}), outside=("192.0.2.77", "2001:db8::77"))
    (seen,) = bench.put(INSIDE, tcp(flow(4), SYN))
    assert source_of(seen) == "192.0.2.77"
    (seen,) = bench.put(INSIDE, tcp(flow(6), SYN))
    assert source_of(seen) == "2001:db8::77"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"pool": ["192.0.2.0/24"]}, "does not appear to be an IPv4 or IPv6 address"),
        ({"pool": ["192.0.2.1", "192.0.2.1"]}, "listed twice"),
        ({"pool": [f"10.0.{n}.1" for n in range(250)] + ["10.1.0.1"] * 7}, "at most 256"),
        ({"ports": "5-4"}, "expected a range"),
        ({"ports": "0-65536"}, "expected a range"),
        ({"ports": "80"}, "expected a range"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"address_pooling": "pair"}, "address_pooling"),
    ],
)
def test_options_that_cannot_be(options, complaint):
    with pytest.raises(LabError, match=complaint):
        NatBench(**options)


def test_a_reset_that_nobody_believes_leaves_a_connection_open(version):
    """RFC 7857 section 2.2; forged, it lies outside the window."""
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    one = flow(version)
    public = bench.open(one)
    forged = tcp_segment(public.back.key, seq=5 << 28, flags=RST)
    assert bench.back(forged) is not None  # it is the client's to judge
    bench.wait(500.0)
    assert bench.sessions == 1
    assert bench.back(tcp(public.back, RST)) is not None
    assert bench.out(tcp(one, payload=b"not for me")) is not None  # RFC 6146 section 3.5.2.2
    bench.wait(500.0)
    assert bench.sessions == 1


def test_a_forged_syn_does_not_keep_an_ended_connection(version):
    """It names no window scale; the connection's own must go on to count (RFC 5961 section 4)."""
    bench = NatBench(transitory_timeout=20.0, idle_timeout=1000.0)
    here = loaded(tcp(flow(version), SYN)).key
    scaled = HandshakeOptions(mss=1460, window_scale=7).encode()

    def segment(key, seq, ack, flags, **settings):
        return tcp_segment(key, seq=seq, ack=ack, flags=flags, window=500, **settings)

    sent = bench.out(segment(here, 100, 0, SYN, options=scaled))
    there = reverse_key(sent.key)
    bench.back(segment(there, 500, 101, SYN | ACK, options=scaled))
    bench.out(segment(here, 101, 501, ACK))
    bench.back(tcp_segment(there, seq=5 << 28, flags=SYN, window=500))  # forged
    for number in range(10):
        last = FIN if number == 9 else 0
        bench.back(segment(there, 501 + 1000 * number, 101, ACK | last, payload=bytes(1000)))
    bench.out(segment(here, 101, 10502, ACK | FIN))
    bench.back(segment(there, 10502, 102, ACK))
    bench.wait(30.0)
    assert bench.sessions == 0


def test_requests_from_outside_belong_to_no_session(version):
    bench = NatBench()
    one = flow(version)
    address, _ = bench.send(echo(one, identifier=5000))
    back = Flow(one.destination, 0, address, 0)
    assert bench.back(echo(back, identifier=5000)) is None
    assert bench.dropped == {"no-mapping": 1}
    assert bench.back(echo(back, identifier=5000, reply=True)) is not None


def test_what_is_for_the_node_itself_reaches_it(version):
    """ICMP that is of no session, and ports that are given to no client."""
    own = POOL[version][0]
    bench = Bench(("nat", {"ports": "1024-60999"}), outside=(own,))
    there = server(version)
    for port, arrives in ((22, True), (1023, True), (1024, False), (60999, False), (61000, True)):
        for make in (udp, lambda one: tcp(one, SYN | ACK)):
            assert bool(bench.put(OUTSIDE, make(Flow(there, 80, own, port)))) is arrives
    for reply in (False, True):
        (seen,) = bench.put(OUTSIDE, echo(Flow(there, 0, own), identifier=5000, reply=reply))
        assert destination_of(seen) == own
    about = Bench(("nat", {}), outside=(own,))
    (seen,) = about.put(OUTSIDE, error(udp(Flow(own, 61000, there)), there))
    assert destination_of(seen) == own
