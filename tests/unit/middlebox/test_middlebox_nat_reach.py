"""Who may reach whom through a NAT: filtering, and hosts inside by public endpoints."""

from __future__ import annotations

import ipaddress

import pytest
from box_bench import Bench, Seen, size_of
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
    quote_of,
    server,
    source_of,
    tcp,
    udp,
)

from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import INSIDE, OUTSIDE

ANYBODY, ADDRESS, ENDPOINT = (
    "endpoint-independent",
    "address-dependent",
    "address-and-port-dependent",
)
KINDS = {"tcp": lambda one: tcp(one, SYN), "udp": udp}


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=KINDS, ids=list(KINDS))
def first(request: pytest.FixtureRequest):
    """The first packet of a flow, of each protocol."""
    return KINDS[request.param]


def ends(seen: Seen) -> Flow:
    return Flow(source_of(seen), ports_of(seen)[0], destination_of(seen), ports_of(seen)[1])


# Filtering


@pytest.mark.parametrize(
    ("filtering", "other_port", "other_host"),
    [(ANYBODY, True, True), (ADDRESS, True, False), (ENDPOINT, False, False)],
)
@pytest.mark.parametrize("mapping", ["endpoint-independent", "endpoint-dependent"])
def test_filtering_says_who_comes_in(version, first, filtering, mapping, other_port, other_host):
    bench = NatBench(filtering=filtering, mapping=mapping)
    one = flow(version)
    address, port = bench.send(first(one))
    for source, source_port, comes in (
        (one.destination, one.to_port, True),
        (one.destination, 81, other_port),
        (server(version, 9), 80, other_host),
    ):
        back = bench.back(first(Flow(source, source_port, address, port)))
        assert (back is not None) == comes
        if back is not None:
            assert ends(back) == Flow(source, source_port, one.source, one.port) and back.right
    assert bench.counted.get("sessions-from-outside", 0) == other_port + other_host
    assert bench.dropped.get("no-mapping", 0) == 2 - other_port - other_host


def test_a_connection_from_outside_is_carried_on(version):
    bench = NatBench(filtering=ANYBODY)
    one = flow(version)
    address, port = bench.send(tcp(one, SYN))
    caller = Flow(server(version, 9), 999, address, port)
    assert bench.back(tcp(caller, SYN)) is not None
    answer = bench.out(tcp(Flow(one.source, one.port, caller.source, 999), SYN | ACK))
    assert ends(answer) == caller.back
    assert bench.back(tcp(caller, ACK, b"request")).payload == b"request"


@pytest.mark.parametrize("flags", [ACK, RST, FIN | ACK, SYN | ACK])
def test_only_a_syn_begins_a_connection_from_outside(version, flags):
    bench = NatBench(filtering=ANYBODY)
    address, port = bench.send(tcp(flow(version), SYN))
    assert bench.back(tcp(Flow(server(version, 9), 999, address, port), flags)) is None
    assert bench.dropped == {"no-mapping": 1}


def test_nobody_pings_what_was_not_pinged(version):
    bench = NatBench(filtering=ANYBODY)
    one = flow(version)
    bench.out(echo(one, identifier=7))
    address = POOL[version][0]
    assert bench.back(echo(Flow(server(version, 9), 0, address), identifier=7)) is None


def test_an_address_is_known_as_long_as_a_session_with_it_lasts(version):
    bench = NatBench(filtering=ADDRESS, udp_timeout=10, mapping_timeout=1000)
    one = flow(version)
    address, port = bench.send(udp(one))
    other = Flow(one.destination, 81, address, port)
    bench.wait(9)
    assert bench.back(udp(other)) is not None  # a session of its own
    bench.wait(9)
    assert bench.back(udp(Flow(one.destination, 82, address, port))) is not None
    bench.wait(11)
    assert bench.back(udp(other)) is None and bench.sessions == 0
    assert bench.send(udp(one)) == (address, port)
    assert bench.back(udp(other)) is not None


def test_a_mapping_lets_callers_in_until_it_ends(version):
    bench = NatBench(filtering=ANYBODY, udp_timeout=10, mapping_timeout=100)
    one = flow(version)
    address, port = bench.send(udp(one))
    caller = Flow(server(version, 9), 999, address, port)
    bench.wait(50)
    assert bench.sessions == 0 and bench.back(udp(caller)) is not None
    bench.wait(50)
    assert bench.back(udp(caller)) is not None
    bench.wait(10 + 101)
    assert bench.back(udp(caller)) is None
    assert bench.nat.gauges() == {"now-sessions": 0, "now-mappings": 0, "now-pairs": 0}


def test_filtering_can_be_set_while_traffic_runs(version):
    bench = NatBench()
    address, port = bench.send(udp(flow(version)))
    caller = Flow(server(version, 9), 999, address, port)
    assert bench.back(udp(caller)) is None
    bench.pipeline.set_options("nat", {"filtering": ANYBODY})
    assert bench.back(udp(caller)) is not None


def test_callers_are_bounded_too(version):
    bench = NatBench(filtering=ANYBODY, session_limit=20)
    address, port = bench.send(udp(flow(version)))
    for caller in range(1, 200):
        bench.back(udp(Flow(server(version, 9), caller, address, port)))
    assert bench.sessions == 20 and bench.counted["evicted"] == 180


def test_a_port_that_talks_to_many_is_no_burden(version):
    bench = NatBench(filtering=ADDRESS, session_limit=20)
    sizes = []
    for number in range(3000):
        there = ipaddress.ip_address(server(version)) + number
        bench.out(udp(Flow(inside(version), 5000, str(there))))
        if number in (300, 2999):
            bench.sent.clear()
            sizes.append(size_of(bench))
    assert sizes[1] < sizes[0] + 10_000, sizes


def test_a_connection_that_was_closed_is_not_opened_again_from_outside(version):
    bench = NatBench()
    one = flow(version)
    public = bench.open(one)
    bench.close(one, public)
    bench.back(tcp(public.back, SYN))
    bench.out(tcp(one, ACK))
    bench.wait(250)  # longer than the transitory timeout
    assert bench.sessions == 0


# Hairpinning


def meet(bench: NatBench, version: int, first) -> tuple[Flow, Flow]:
    """Two hosts inside that have talked to a server; their private and public endpoints."""
    one, two = flow(version, host=1), flow(version, host=2, port=6000)
    public = [bench.send(first(each)) for each in (one, two)]
    return (
        Flow(one.source, one.port, *public[1]),  # the first one calls the second one
        Flow(*public[0], two.source, two.port),  # as the second one sees it
    )


def test_hosts_inside_reach_each_other_by_public_endpoints(version, first):
    bench = NatBench(filtering=ANYBODY)
    call, seen_by_two = meet(bench, version, first)
    (seen,) = bench.put(INSIDE, first(call))
    assert seen.side is INSIDE and seen.right
    assert ends(seen) == seen_by_two  # RFC 4787 REQ-9 a: from the public endpoint
    (back,) = bench.put(INSIDE, first(seen_by_two.back))
    assert back.side is INSIDE and back.right and ends(back) == call.back
    counters = bench.pipeline.counters()
    assert counters.held == counters.missing == 0 and counters.dropped == {}


def test_a_connection_between_hosts_inside(version):
    bench = NatBench(filtering=ANYBODY)
    call, seen_by_two = meet(bench, version, KINDS["tcp"])
    for one, flags in ((call, SYN), (seen_by_two.back, SYN | ACK), (call, ACK)):
        assert len(bench.put(INSIDE, tcp(one, flags))) == 1
    (data,) = bench.put(INSIDE, tcp(call, ACK, b"request"))
    assert ends(data) == seen_by_two and data.payload == b"request" and data.right
    bench.wait(300)  # longer than the transitory timeout: both halves are open
    assert len(bench.put(INSIDE, tcp(seen_by_two.back, ACK, b"answer"))) == 1


def test_filtering_holds_between_hosts_inside_too(version):
    """Each has to have sent something to the other: the hole is punched from both sides."""
    bench = NatBench()
    call, seen_by_two = meet(bench, version, udp)
    assert bench.put(INSIDE, udp(call)) == []
    assert bench.dropped == {"no-mapping": 1}
    public = Flow(inside(version, 2), 6000, seen_by_two.source, seen_by_two.port)
    (seen,) = bench.put(INSIDE, udp(public))
    assert ends(seen) == call.back
    (again,) = bench.put(INSIDE, udp(call))
    assert ends(again) == seen_by_two


def test_errors_between_hosts_inside_are_translated_twice(version):
    bench = NatBench(filtering=ANYBODY)
    call, seen_by_two = meet(bench, version, udp)
    (seen,) = bench.put(INSIDE, udp(call))
    (back,) = bench.put(INSIDE, error(seen.data, seen_by_two.destination))
    assert back.side is INSIDE and back.right
    assert (source_of(back), destination_of(back)) == (call.destination, call.source)
    sent = udp(call)
    quoted = quote_of(back)
    assert quoted[:1] == bytes(sent[:1]) and quoted[-13:] == bytes(sent[-13:])
    assert Seen(INSIDE, bytearray(quoted)).key == Seen(INSIDE, sent).key


def test_functions_further_in_see_what_comes_back_and_those_further_out_do_not(version):
    bench = Bench(
        ("ecn-bleach", {}),
        ("nat", {"pool": [POOL[version][0]], "filtering": ANYBODY}),
        ("firewall", {}),
    )
    two = flow(version, host=2, port=6000)
    bench.put(INSIDE, tcp(two, SYN))
    call = Flow(inside(version, 1), 5000, POOL[version][0], 6000)
    assert len(bench.put(INSIDE, tcp(call, SYN))) == 1
    # Twice outward through the firewall, and once inward.
    assert bench.pipeline.functions["firewall"].counters["opened"] == 3


def own(version: int, **options: object) -> tuple[Bench, str]:
    """A box whose pool is its own addresses on the outside."""
    addresses = (POOL[4][0], POOL[6][0])
    return Bench(("nat", options), outside=addresses), POOL[version][0]


@pytest.mark.parametrize("hairpinning", [True, False])
def test_the_node_itself_stays_within_reach(version, hairpinning):
    """Where nobody has a mapping, its own address is that of the node: packets pass untouched."""
    bench, address = own(version, hairpinning=hairpinning)
    one = Flow(inside(version), 5000, address, 22)
    pieces = ip(one.addresses, 44 if version == 6 else 17, bytes((17, 0, 0, 1)) + bytes(24))
    if version == 4:
        pieces[6] = 0x20
    for data in (tcp(one, SYN), tcp(one, ACK), udp(one), echo(one, identifier=1), pieces):
        (seen,) = bench.put(INSIDE, data)
        assert seen.side is OUTSIDE and seen.key == Seen(OUTSIDE, data).key
    assert bench.pipeline.functions["nat"].gauges()["now-sessions"] == 0


def test_without_hairpinning_an_endpoint_of_somebody_inside_is_the_nodes(version):
    bench, address = own(version, hairpinning=False, filtering=ANYBODY)
    bench.put(INSIDE, udp(flow(version, host=2, port=6000)))
    (seen,) = bench.put(INSIDE, udp(Flow(inside(version), 5000, address, 6000)))
    assert seen.side is OUTSIDE and source_of(seen) == inside(version)


def test_nobody_has_a_pool_address_that_is_not_the_nodes(version):
    bench = NatBench()
    assert bench.put(INSIDE, udp(Flow(inside(version), 5000, POOL[version][1], 80))) == []
    assert bench.dropped == {"no-mapping": 1} and bench.sessions == 0
