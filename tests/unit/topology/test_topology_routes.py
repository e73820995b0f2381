"""Routes that a topology asks for, and the settings they carry."""

from __future__ import annotations

import pytest

from testbed.errors import TopologyError
from testbed.topology.planning.addressing import BLOCKS, Prefix
from testbed.topology.planning.aggregate import aggregate, build_trie
from testbed.topology.planning.plan import plan
from testbed.topology.planning.plan_model import PlannedNode
from testbed.topology.yaml.load import loads

LINE = (
    "links: [{{endpoints: [a, r]}}, {{endpoints: [r, q]}}, {{endpoints: [q, b]}}]\n"
    "name: t\nnodes:\n  r: {{kind: router}}\n  q: {{kind: router}}\n  b:\n  a: {}\n"
)


def node(text: str, name: str = "a") -> PlannedNode:
    return plan(loads(text)).nodes[name]


def routes(text: str, name: str = "a") -> list[tuple[str, str, str | None]]:
    return [(route.destination, route.interface, route.via) for route in node(text, name).routes]


def refusal(text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        plan(loads(text))
    (line,) = caught.value.problems
    return line


DEFAULTS = [("0.0.0.0/0", "eth0", "10.0.1.2"), ("::/0", "eth0", "fd00:0:0:1::2")]


def test_a_host_with_a_single_exit_has_default_routes_only() -> None:
    assert routes(LINE.format("{}")) == DEFAULTS


def test_a_router_has_prefixes_and_no_default_route() -> None:
    assert routes(LINE.format("{}"), "r") == [
        ("10.0.3.0/24", "eth1", "10.0.2.2"),
        ("fd00:0:0:3::/64", "eth1", "fd00:0:0:2::2"),
    ]


def test_settings_for_a_node_go_to_each_of_its_addresses() -> None:
    found = node(LINE.format("{routes: [{to: b, rto_min: 1s, initcwnd: 3}]}")).routes
    special = [route for route in found if route.metrics.rto_min is not None]
    assert [(route.destination, route.via) for route in special] == [
        ("10.0.3.2/32", "10.0.1.2"),
        ("fd00:0:0:3::2/128", "fd00:0:0:1::2"),
    ]
    assert all(route.metrics.initcwnd == 3 for route in special)
    assert len(found) == 4


def test_a_directly_connected_target_has_no_next_hop_on_its_near_address() -> None:
    text = LINE.format("{routes: [{to: r, rto_min: 1s}]}")
    assert routes(text) == [
        ("10.0.1.2/32", "eth0", None),
        DEFAULTS[0],
        ("10.0.2.1/32", "eth0", "10.0.1.2"),
        ("fd00:0:0:1::2/128", "eth0", None),
        DEFAULTS[1],
        ("fd00:0:0:2::1/128", "eth0", "fd00:0:0:1::2"),
    ]


def test_settings_for_the_default_route_replace_the_planned_ones() -> None:
    found = node(LINE.format("{routes: [{to: default, initcwnd: 20}]}")).routes
    assert [(route.destination, route.via) for route in found] == [
        (destination, via) for destination, _, via in DEFAULTS
    ]
    assert all(route.metrics.initcwnd == 20 for route in found)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("10.0.3.0/24", ("10.0.3.0/24", "eth0", "10.0.1.2")),
        ("10.0.2.0/23", ("10.0.2.0/23", "eth0", "10.0.1.2")),
        ("10.0.1.0/24", ("10.0.1.0/24", "eth0", None)),
        ("10.0.1.128/25", ("10.0.1.128/25", "eth0", None)),
        ("8.8.8.8", ("8.8.8.8/32", "eth0", "10.0.1.2")),
        ("'2001:db8::/32'", ("2001:db8::/32", "eth0", "fd00:0:0:1::2")),
    ],
)
def test_settings_for_a_prefix_keep_the_planned_next_hop(
    to: str, expected: tuple[str, str, str | None]
) -> None:
    found = routes(LINE.format(f"{{routes: [{{to: {to}, rto_min: 1s}}]}}"))
    assert set(found) - set(DEFAULTS) == {expected}


@pytest.mark.parametrize("via", ["r", "10.0.1.2"])
def test_via_a_neighbour_by_name_or_address(via: str) -> None:
    text = LINE.format(f"{{routes: [{{to: 192.0.2.0/24, via: {via}}}]}}")
    assert ("192.0.2.0/24", "eth0", "10.0.1.2") in routes(text)


def test_via_a_name_serves_both_families_and_an_address_its_own() -> None:
    by_name = routes(LINE.format("{routes: [{to: b, via: r}]}"))
    assert ("10.0.3.2/32", "eth0", "10.0.1.2") in by_name
    assert ("fd00:0:0:3::2/128", "eth0", "fd00:0:0:1::2") in by_name
    by_address = routes(LINE.format("{routes: [{to: b, via: 'fd00:0:0:1::2'}]}"))
    assert set(by_address) - set(DEFAULTS) == {("fd00:0:0:3::2/128", "eth0", "fd00:0:0:1::2")}


def test_congestion_control_is_on_every_route_also_on_connected_ones() -> None:
    text = LINE.format(
        "{congestion_control: reno, "
        "routes: [{to: b, rto_min: 1s}, {to: q, congestion_control: cubic}]}"
    )
    found = {route.destination: route for route in node(text).routes}
    assert found["10.0.1.0/24"].via is None
    assert found["fd00:0:0:1::/64"].via is None
    assert found["10.0.3.2/32"].metrics.rto_min == 1
    for destination, route in found.items():
        chosen = "cubic" if destination in ("10.0.2.2/32", "10.0.3.1/32") else "reno"
        if destination in ("fd00:0:0:2::2/128", "fd00:0:0:3::1/128"):
            chosen = "cubic"
        assert route.metrics.congestion_control == chosen, destination
    assert node(text).congestion_control == "reno"


def test_connected_routes_come_before_those_that_need_them() -> None:
    found = routes(LINE.format("{congestion_control: reno, routes: [{to: r, via: r}]}"))
    for family in (False, True):
        vias = [via for destination, _, via in found if (":" in destination) == family]
        assert vias.index(None) == 0
        assert None not in vias[1:]


DIAMOND = (
    "name: t\nnodes: {{a: {}, r: {{kind: router}}, q: {{kind: router}}, b: }}\n"
    "links: [{{endpoints: [a, r]}}, {{endpoints: [a, q]}}, {{endpoints: [q, b]}}, "
    "{{endpoints: [r, b]}}]\n"
)


def test_a_host_with_two_exits_has_a_route_for_each_side() -> None:
    text = (
        "name: t\nnodes: {x: , r: {kind: router}, a: , q: {kind: router}, y: }\n"
        "links: [{endpoints: [x, r]}, {endpoints: [r, a]}, {endpoints: [a, q]}, "
        "{endpoints: [q, y]}]\n"
    )
    result = plan(loads(text))
    x, y = result.addresses("x")[0], result.addresses("y")[0]
    hops = {
        route.destination: route.via for route in result.nodes["a"].routes if ":" not in str(route)
    }
    assert "0.0.0.0/0" not in hops
    vias = {route.via for route in result.nodes["a"].routes if "." in route.destination}
    assert len(vias) == 2
    assert x.rsplit(".", 1)[0] != y.rsplit(".", 1)[0]


def test_equal_paths_agree_in_both_directions() -> None:
    result = plan(loads(DIAMOND.format("")))
    r_addresses = set(result.addresses("r"))
    there = next(
        r.via for r in plan(loads(DIAMOND.format("{routes: [{to: b}]}"))).nodes["a"].routes
    )
    back = [
        route.via for route in result.nodes["b"].routes if route.destination.startswith("10.0.1.")
    ]
    assert there in r_addresses
    assert set(back) <= r_addresses


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            DIAMOND.format("{routes: [{to: default, rto_min: 1s}]}"),
            "nodes.a.routes[0].to: a needs a `via:` for a default route: one of r or q",
        ),
        (
            DIAMOND.format("{routes: [{to: 10.0.0.0/8, rto_min: 1s}]}"),
            "10.0.0.0/8 lies behind several next hops; give `via:` or a longer prefix",
        ),
        (
            LINE.format("{routes: [{to: b, via: 10.0.9.9}]}"),
            "nodes.a.routes[0].via: 10.0.9.9 is on no link of a",
        ),
        (
            LINE.format("{routes: [{to: 10.9.0.0/16, via: 'fd00:0:0:1::2'}]}"),
            "different families",
        ),
        (
            LINE.format("{routes: [{to: b, rto_min: 1s}, {to: b, initcwnd: 5}]}"),
            "nodes.a.routes[1]: routes[0] sets the route to 10.0.3.2/32 already",
        ),
        (
            "name: t\nnodes: {a: {routes: [{to: default}]}, b: }\nlinks: [{endpoints: [a, b]}]",
            "no neighbour of it forwards packets",
        ),
        (
            "name: t\nnodes: {a: {routes: [{to: 8.8.8.0/24}]}, b: }\nlinks: [{endpoints: [a, b]}]",
            "there is no path from a to '8.8.8.0/24'; give `via:`",
        ),
    ],
)
def test_routes_that_cannot_be_are_refused(text: str, says: str) -> None:
    assert says in refusal(text)


def v4(text: str) -> Prefix:
    base, length = text.split("/")
    number = 0
    for byte in base.split("."):
        number = number << 8 | int(byte)
    return Prefix(number, int(length), 32)


def aggregated(hops: dict[str, int], connected: tuple[str, ...] = ()) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate([*hops, *connected])}
    trie = build_trie({number: v4(name) for name, number in numbers.items()}, BLOCKS[4])
    assert trie is not None
    wanted = {numbers[name]: hop for name, hop in hops.items() if hop >= 0}
    indifferent = frozenset(numbers[name] for name in connected)
    return {str(prefix): hop for prefix, hop in aggregate(trie, wanted, indifferent).items()}


def test_aggregation_merges_over_unused_addresses_of_the_block() -> None:
    assert aggregated({"10.0.1.0/24": 0, "10.0.2.0/24": 0, "10.0.9.0/24": 0}) == {"10.0.0.0/20": 0}


def test_aggregation_merges_over_connected_subnets() -> None:
    hops = {"10.0.0.0/24": 0, "10.0.3.0/24": 0}
    assert aggregated(hops, ("10.0.1.0/24",)) == {"10.0.0.0/22": 0}


def test_aggregation_covers_no_more_than_it_must() -> None:
    assert aggregated({"10.0.3.0/24": 0}, ("10.0.1.0/24", "10.0.2.0/24")) == {"10.0.3.0/24": 0}


def test_aggregation_uses_a_longer_prefix_for_the_exception() -> None:
    hops = {"10.0.0.0/24": 0, "10.0.1.0/24": 1, "10.0.2.0/24": 0, "10.0.3.0/24": 0}
    assert aggregated(hops) == {"10.0.0.0/22": 0, "10.0.1.0/24": 1}


def test_aggregation_gives_the_short_prefix_to_the_commonest_next_hop() -> None:
    hops = {"10.0.0.0/24": 1, "10.0.1.0/24": 0, "10.0.2.0/24": 1, "10.0.3.0/24": 1}
    assert aggregated(hops) == {"10.0.0.0/22": 1, "10.0.1.0/24": 0}


def test_aggregation_stays_exact_outside_of_the_block() -> None:
    assert aggregated({"192.168.0.0/24": 0, "192.168.2.0/24": 0}) == {
        "192.168.0.0/24": 0,
        "192.168.2.0/24": 0,
    }
    assert aggregated({"192.168.0.0/24": 0, "192.168.1.0/24": 0}) == {"192.168.0.0/23": 0}


def test_aggregation_leaves_the_unreachable_without_a_route() -> None:
    assert aggregated({"10.0.0.0/24": 0, "10.0.1.0/24": -1, "10.0.2.0/24": 0}) == {
        "10.0.0.0/24": 0,
        "10.0.2.0/24": 0,
    }


def test_a_router_without_ipv6_is_on_no_path_of_it() -> None:
    text = """
name: t
nodes:
  a: {}
  plain: {kind: router, sysctls: {net.ipv6.conf.all.disable_ipv6: 1}}
  b: {}
links: [{endpoints: [a, plain]}, {endpoints: [plain, b]}]
"""
    planned = plan(loads(text))
    assert planned.addresses("plain", 6) == ()
    assert planned.addresses("a", 6) != ()
    assert all(":" not in route.destination for route in planned.nodes["a"].routes)
    assert all(":" not in one.address for one in planned.nodes["plain"].neighbours)
