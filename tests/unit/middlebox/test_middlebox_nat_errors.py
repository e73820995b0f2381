"""ICMP errors about translated packets: outside and inside of them change together."""

from __future__ import annotations

import struct

import pytest
from nat_bench import (
    POOL,
    Flow,
    NatBench,
    destination_of,
    echo,
    error,
    flow,
    inside,
    quote_of,
    server,
    source_of,
    tcp,
    udp,
)
from packet_bench import checksums_are_right, word_sum

from testbed.wire.flags import SYN
from testbed.wire.packet import INSIDE, OUTSIDE

ROUTER = {4: "203.0.113.9", 6: "2001:db8:9::9"}


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


KINDS = {
    "tcp": lambda one: tcp(one, SYN, b"payload"),
    "udp": udp,
    "echo": lambda one: echo(one, identifier=one.port),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def header_is_right(quote: bytes) -> bool:
    return quote[0] >> 4 == 6 or word_sum(quote[:20]) == 0xFFFF


def without_hops(data: bytes | bytearray) -> bytes:
    """A packet without what a hop changes: TTL and the IPv4 header's checksum."""
    data = bytearray(data)
    if data[0] >> 4 == 4:
        data[8] = data[10] = data[11] = 0
    else:
        data[7] = 0
    return bytes(data)


def test_an_error_from_outside_reaches_the_client_and_quotes_what_it_sent(version, kind):
    bench = NatBench()
    sent = KINDS[kind](flow(version))
    out = bench.out(sent)
    seen = bench.back(error(out.data, ROUTER[version]))
    assert source_of(seen) == ROUTER[version] and destination_of(seen) == inside(version)
    quote = quote_of(seen)
    assert checksums_are_right(quote)
    assert without_hops(quote) == without_hops(sent)
    assert bench.counted["errors-translated"] == 1


def test_an_error_of_the_nodes_own_kernel_comes_from_either_side(version, kind):
    """About a packet from a public address that is not the node's, it comes from inside."""
    bench = NatBench()
    sent = KINDS[kind](flow(version))
    out = bench.out(sent)
    (seen,) = bench.put(INSIDE, error(out.data, ROUTER[version]))
    assert seen.right and seen.side is INSIDE and destination_of(seen) == inside(version)
    assert without_hops(quote_of(seen)) == without_hops(sent)


@pytest.mark.parametrize("cut", [8, 15])
def test_a_quote_that_is_cut_off_is_translated_as_far_as_it_goes(version, kind, cut):
    bench = NatBench()
    sent = KINDS[kind](flow(version))
    out = bench.out(sent)
    head = 20 if version == 4 else 40
    seen = bench.back(error(out.data, ROUTER[version], cut=head + cut))
    assert destination_of(seen) == inside(version) and header_is_right(quote_of(seen))
    assert without_hops(quote_of(seen)) == without_hops(sent[: head + cut])


def test_an_error_from_inside_shows_the_public_endpoint_only(version, kind):
    bench = NatBench(ports="6000-6000")
    out = bench.out(KINDS[kind](flow(version)))
    if kind == "echo":
        sent = echo(Flow(server(version), 0, source_of(out)), identifier=6000, reply=True)
    else:
        sent = KINDS[kind](Flow(server(version), 80, source_of(out), 6000))
    came = bench.back(sent)
    for complainer in (inside(version), inside(version, 250)):  # the client, or a router
        seen = bench.out(error(came.data, complainer))
        assert source_of(seen) == POOL[version][0] and destination_of(seen) == server(version)
        assert checksums_are_right(quote_of(seen))
        assert without_hops(quote_of(seen)) == without_hops(sent)


def test_a_quoted_udp_packet_without_a_checksum_keeps_none():
    bench = NatBench()
    sent = udp(flow(4))
    sent[26:28] = b"\0\0"
    (out,) = bench.put(INSIDE, sent)
    seen = bench.back(error(out.data, ROUTER[4]))
    assert quote_of(seen)[26:28] == b"\0\0"
    assert quote_of(seen)[12:16] == bytes((10, 0, 0, 1))


def test_an_error_with_a_wrong_checksum_stays_wrong(version):
    bench = NatBench()
    out = bench.out(udp(flow(version)))
    data = error(out.data, ROUTER[version])
    data[-1] ^= 1
    (seen,) = bench.put(OUTSIDE, data)
    assert not seen.right and destination_of(seen) == inside(version)


def test_errors_about_nothing_known_are_dropped(version):
    bench = NatBench()
    bench.out(udp(flow(version)))
    stranger = Flow(POOL[version][0], 1234, server(version))
    assert bench.back(error(udp(stranger), ROUTER[version])) is None
    about_esp = error(udp(stranger), ROUTER[version])
    head = 28 if version == 4 else 48
    about_esp[head + (9 if version == 4 else 6)] = 50
    assert bench.put(OUTSIDE, about_esp) == []
    assert bench.dropped == {"no-mapping": 2}
    unknown = Flow(server(version), 80, inside(version, 7), 5)
    assert bench.out(error(udp(unknown), inside(version, 7))) is None
    assert bench.dropped == {"no-mapping": 2, "no-session": 1}


@pytest.mark.parametrize("harm", range(9))
def test_damaged_quotes_do_no_harm(version, harm):
    bench = NatBench()
    out = bench.out(udp(flow(version)))
    head = 28 if version == 4 else 48
    data = error(out.data, ROUTER[version])
    if harm < 4:
        data[head] = (0x40, 0x4F, 0x60, 0x00)[harm]
    elif harm == 4:
        struct.pack_into("!H", data, head + 6, 0x1FFF)
    else:
        data = error(out.data, ROUTER[version], cut=(0, 7, 19, head - 8 + 7)[harm - 5])
    seen = bench.put(OUTSIDE, data)
    if (version, harm) == (6, 2):  # which is no harm
        assert len(seen) == 1
    else:
        assert seen == [] and bench.dropped == {"no-mapping": 1}
