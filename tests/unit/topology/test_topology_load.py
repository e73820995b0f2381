"""Loading: what YAML means, and every fault of a file at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import TopologyError
from testbed.topology.model import (
    CapturePoint,
    Endpoint,
    Impairments,
    Queue,
    QueueLimit,
    Route,
    RouteMetrics,
)
from testbed.topology.yaml.load import load, loads

PAIR = "name: t\nnodes: {a: , b: }\nlinks:\n  - endpoints: [a:eth0, b:eth0]\n"
HEAD = "name: t\nnodes:\n  a:\n  b:\n  r: {kind: router}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        loads(text, source="t.yaml")
    return list(caught.value.problems)


def only_problem(text: str) -> str:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


def ends(text: str) -> list[tuple[str, str]]:
    return [(str(link.endpoints[0]), str(link.endpoints[1])) for link in loads(text).links]


TOPOLOGIES = sorted((Path(__file__).parents[3] / "topologies").glob("*.yaml"))


def test_there_are_topologies() -> None:
    assert {"docomo", "pair", "chain", "lan"} <= {path.stem for path in TOPOLOGIES}


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_every_topology_of_the_project_loads(path: Path) -> None:
    assert load(path).name == path.stem


def test_docomo_means_what_it_says() -> None:
    topology = load(next(path for path in TOPOLOGIES if path.stem == "docomo"))
    gateway, router, server = topology.nodes.values()
    assert gateway.congestion_control == "reno"
    assert gateway.routes == (Route(to="server", metrics=RouteMetrics(rto_min=1.0)),)
    assert (router.kind, router.outside) == ("middlebox", "gateway")
    assert router.functions[0].name == "setup-proxy"
    assert router.functions[0].options == {"handshake_data": "drop"}
    assert server.sysctls == {"net.ipv4.tcp_syncookies": "0"}
    assert topology.links[0].forward == topology.links[0].reverse == Impairments(delay=0.01)
    assert topology.links[1].forward.harmless
    assert topology.captures == (Endpoint("gateway", "eth0"), Endpoint("server", "eth0"))
    assert topology.scenario == "docomo"


def test_a_direction_overrides_the_common_values() -> None:
    link = loads(
        PAIR + "    delay: 10ms\n    loss: 1%\n    queue: {limit: 64KiB}\n"
        "    forward: {loss: 0.5}\n    reverse: {rate: 10mbit, delay: 0}\n"
        "    mtu: 1400\n    offload: true\n    emulated: true\n    subnet: 10.9.0.0/24\n"
    ).links[0]
    queue = Queue(limit=QueueLimit(65536, "bytes"))
    assert link.forward == Impairments(delay=0.01, loss=0.5, queue=queue)
    assert link.reverse == Impairments(rate=1e7, loss=0.01, queue=queue)
    assert (link.mtu, link.offload, link.emulated) == (1400, True, True)
    assert link.subnets == ("10.9.0.0/24",)


def test_a_list_of_subnets() -> None:
    assert loads(PAIR + "    subnet: [10.9.0.0/24, 'fd01::/64']\n").links[0].subnets == (
        "10.9.0.0/24",
        "fd01::/64",
    )


def test_interface_names_are_chosen_around_the_given_ones() -> None:
    text = (
        "name: t\nnodes: {a: , b: , s: {kind: switch}}\n"
        "links: [{endpoints: [a, s]}, {endpoints: [b, s]}, {endpoints: ['a:eth1', b]},"
        " {endpoints: [a, 'b:eth0']}]\n"
    )
    assert ends(text) == [
        ("a:eth0", "s:port1"),
        ("b:eth1", "s:port2"),
        ("a:eth1", "b:eth2"),
        ("a:eth2", "b:eth0"),
    ]


def test_a_group_has_one_link_per_member() -> None:
    text = (
        "name: t\nnodes: {sw: {kind: switch}, h: {count: 3, congestion_control: reno}, "
        "g: {count: 1}}\n"
        "links: [{endpoints: ['h:up', sw]}, {endpoints: ['sw:p', g]}]\ncaptures: [h, sw:port2]\n"
    )
    topology = loads(text)
    assert list(topology.nodes) == ["sw", "h1", "h2", "h3", "g1"]
    assert {topology.nodes[name].congestion_control for name in ("h1", "h3")} == {"reno"}
    assert ends(text) == [
        ("h1:up", "sw:port1"),
        ("h2:up", "sw:port2"),
        ("h3:up", "sw:port3"),
        ("sw:p", "g1:eth0"),
    ]
    assert list(map(str, topology.captures)) == ["h1:up", "h2:up", "h3:up", "sw:port2"]


def test_a_route_to_a_group_is_one_to_each_member() -> None:
    text = (
        "name: t\nnodes: {sw: {kind: switch}, h: {count: 2}, "
        "a: {routes: [{to: h, rto_min: 1s}]}}\n"
        "links: [{endpoints: [h, sw]}, {endpoints: [a, sw]}]\n"
    )
    assert [route.to for route in loads(text).nodes["a"].routes] == ["h1", "h2"]


def test_capture_of_a_node_means_all_of_its_interfaces() -> None:
    text = HEAD + "links: [{endpoints: [a, r]}, {endpoints: [b, r]}]\ncaptures: [r]\n"
    assert list(map(str, loads(text).captures)) == ["r:eth0", "r:eth1"]


def test_a_capture_says_how_much_of_a_frame_it_keeps():
    text = HEAD + "links: [{endpoints: [a, r]}, {endpoints: [b, r]}]\n"
    captures = loads(text + "captures: [{interface: r, snap: 96}, a, {interface: b}]\n").captures
    assert captures[:2] == (CapturePoint("r", "eth0", 96), CapturePoint("r", "eth1", 96))
    assert captures[2:] == (Endpoint("a", "eth0"), Endpoint("b", "eth0"))


def test_routes_carry_all_their_settings() -> None:
    text = (
        "name: t\nnodes:\n  a: {routes: [{to: default, via: b, rto_min: 300ms, initcwnd: 10, "
        "initrwnd: 20, advmss: 1000, mtu: 1300, congestion_control: cubic}]}\n  b:\n"
        "links: [{endpoints: [a, b]}]\n"
    )
    metrics = RouteMetrics(
        rto_min=0.3, initcwnd=10, initrwnd=20, advmss=1000, mtu=1300, congestion_control="cubic"
    )
    assert loads(text).nodes["a"].routes == (Route(to="default", via="b", metrics=metrics),)


def test_names_that_yaml_1_1_takes_for_booleans_are_names() -> None:
    assert list(loads("name: t\nnodes: {no: , on: , y: }\n").nodes) == ["no", "on", "y"]


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        "name: Docomo\n"
        "descripton: x\n"
        "nodes:\n"
        "  gateway: {congestion_control: reno, routes: [{to: servr, rto_min: 1}]}\n"
        "  router: {kind: middlebx, outside: gatewy}\n"
        "  server: {sysctls: {kernel.panic: 1}}\n"
        "  server: {}\n"
        "links:\n"
        "  - endpoints: [gateway:eth0, router:outside]\n"
        "    delay: 10mz\n"
        "    queue: {limit: 2 bdp}\n"
        "  - endpoints: [router:inside, servr:eth0]\n"
        "captures: [gateway:eth1]\n"
    )
    expected = [
        ("t.yaml:1: name: ", "got 'Docomo'"),
        ("t.yaml:2: descripton: unknown key", "did you mean 'description'?"),
        ("t.yaml:4: nodes.gateway.routes[0].rto_min: ", "unit is missing (1us, 1ms, 1s"),
        ("t.yaml:4: nodes.gateway.routes[0].to: ", "no node 'servr'; did you mean 'server'?"),
        ("t.yaml:5: nodes.router.kind: ", "did you mean 'middlebox'?"),
        ("t.yaml:6: nodes.server: ", "given twice: first in line 6, again in line 7"),
        ("t.yaml:6: nodes.server.sysctls.kernel.panic: ", "only net.* belongs to one node"),
        ("t.yaml:10: links[0].delay: ", "got '10mz': 'mz' is no unit"),
        ("t.yaml:11: links[0].queue.limit: ", "needs a rate"),
        ("t.yaml:12: links[1].endpoints[1]: ", "did you mean 'server'?"),
        ("t.yaml:13: captures[0]: ", "no link ends in gateway:eth1; did you mean 'eth0'?"),
    ]
    assert len(found) == len(expected), found
    for line, (start, says) in zip(found, expected, strict=True):
        assert line.startswith(start)
        assert says in line


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("nodes: {a: }", "t.yaml:1: ", "the key 'name' is missing in this topology"),
        ("name: t", "t.yaml:1: ", "the key 'nodes' is missing"),
        ("name: t\nnodes: {}", "t.yaml:2: nodes: ", "at least 1 entry"),
        ("name: t\nnodes: []", "t.yaml:2: nodes: ", "expected a mapping"),
        ("name: t\nnodes: [a, b]", "nodes: ", "got a list of 2"),
        ("- 1", "t.yaml:1: ", "expected a mapping (`name: ...`), got a list of 1"),
        ("just text", "t.yaml:1: ", "got 'just text'"),
        ("name: 12\nnodes: {a: }", "name: ", "got the number 12; put it in quotes"),
        ("name: t\nnodes: {1a: }", "nodes.1a: ", "expected a node name"),
        ("name: t\nnodes: {default: }", "nodes.default: ", "this name is reserved"),
        ("name: t\nnodes: {a: {kind: 5}}", "nodes.a.kind: ", "one of container, host"),
        ("name: t\nnodes: {a: {count: 0}}", "nodes.a.count: ", "whole number from 1"),
        ("name: t\nnodes: {a: {count: true}}", "nodes.a.count: ", "got true"),
        ("name: t\nnodes: {a: {count: 9999}}", "nodes.a.count: ", "to 4096"),
        ("name: t\nseed: 1.5\nnodes: {a: }", "t.yaml:2: seed: ", "got the number 1.5"),
        ("name: t\nemulator: {kind: x}\nnodes: {a: }", "emulator.kind: ", "got 'x'"),
        ("name: t\nemulator: usrspace\nnodes: {a: }", "emulator: ", "did you mean 'userspace'?"),
        (
            "name: t\nnodes: {a: {sysctls: {net.x: 1}}}",
            "nodes.a.sysctls.net.x: ",
            "between the dots",
        ),
        (
            "name: t\nnodes: {a: {sysctls: {net.ipv4.x: true}}}",
            "nodes.a.sysctls.net.ipv4.x: ",
            "got true",
        ),
        (
            "name: t\nnodes: {a: {sysctls: {net.ipv4./etc: 1}}}",
            "nodes.a.sysctls.net.ipv4./etc: ",
            "letters, digits",
        ),
        ("name: t\nnodes: {a: {interfaces: {all: }}}", "nodes.a.interfaces.all: ", "reserved"),
        ("name: t\nnodes: {a: {routes: [{via: a}]}}", "routes[0]: ", "the key 'to' is missing"),
        ("name: t\nnodes: {a: }\nlinks:", "links: ", "expected a list, got nothing"),
        (PAIR + "    delai: 1ms", "links[0].delai: ", "did you mean 'delay'?"),
        (PAIR + "    latency: 1ms", "links[0].latency: ", "did you mean 'delay'?"),
        (PAIR + "    bandwidth: 1mbit", "links[0].bandwidth: ", "did you mean 'rate'?"),
        ("name: t\nnodes: {a: {type: host}}", "nodes.a.type: ", "did you mean 'kind'?"),
        (PAIR + "    xyzzy: 1ms", "links[0].xyzzy: ", "valid keys: endpoints, rate, overhead"),
        (PAIR + "    offload: yes", "t.yaml:5: links[0].offload: ", "did you mean true?"),
        (PAIR + "    mtu: 60", "links[0].mtu: ", "from 68 to 65521"),
        (PAIR + "    delay: 2h", "t.yaml:5: links[0].delay: ", "expected 0 to 1h, got 2h"),
        (PAIR + "    subnet: 10.1.0.1/24", "links[0].subnet: ", "did you mean '10.1.0.0/24'?"),
        (PAIR + "    subnet: 10.1.0.0/33", "links[0].subnet: ", "expected a subnet"),
        (PAIR + "    subnet: 127.0.0.0/24", "links[0].subnet: ", "loopback"),
        (PAIR + "    subnet: 10.1.0.0/32", "links[0].subnet: ", "no room for two"),
        (PAIR + "    forward: {delay: x}", "links[0].forward.delay: ", "expected a duration"),
        (PAIR + "captures: [a, a:eth0]", "t.yaml:5: captures[1]: ", "captured twice"),
        (PAIR + "captures: [a, {interface: a}]", "captures[1]: ", "captured twice"),
        (PAIR + "captures: [{snap: 96}]", "captures[0]: ", "the key 'interface' is missing"),
        (PAIR + "captures: [{interface: a, snap: 9}]", "captures[0].snap: ", "from 64 to 65535"),
        (PAIR + "captures: [{interface: 'a:'}]", "captures[0].interface: ", "expected `node"),
        (PAIR + "captures: [c]", "captures[0]: ", "there is no node 'c'"),
        (PAIR + "  - endpoints: [a]", "links[1].endpoints: ", "list of exactly 2 items, got 1"),
        (PAIR + "  - delay: 1ms", "links[1]: ", "the key 'endpoints' is missing"),
        (PAIR + "  - endpoints: [a, 'b:']", "endpoints[1]: ", "expected `node:interface`"),
        (PAIR + "  - endpoints: [a, 'b:x/y']", "endpoints[1]: ", "an interface name"),
        (PAIR + "  - endpoints: [a, 'b:sixteen-is-too-m']", "endpoints[1]: ", "1 to 15"),
        (PAIR + "  - endpoints: [a, 'b:lo']", "endpoints[1]: ", "reserved"),
        (PAIR + "  - endpoints: [a, a]", "t.yaml:5: links[1].endpoints: ", "to itself"),
        (PAIR + "  - endpoints: [a:eth0, b]", "links[1].endpoints[0]: ", "in use by links[0]"),
        (PAIR + "  - [a, b]", "links[1]: ", "expected a mapping (`endpoints: ...`)"),
    ],
)
def test_one_fault_is_one_problem(text: str, place: str, says: str) -> None:
    line = only_problem(text)
    assert place in line
    assert says in line


def test_a_fault_of_a_group_is_told_once() -> None:
    text = (
        "name: t\nnodes: {sw: {kind: switch}, h: {count: 9, interfaces: {eth7: }}}\n"
        "links: [{endpoints: [h, sw]}]\n"
    )
    assert "no link ends in h1:eth7" in only_problem(text)


def test_a_group_cannot_share_one_interface() -> None:
    line = only_problem(
        "name: t\nnodes: {sw: {kind: switch}, h: {count: 3}}\nlinks: [{endpoints: [h, 'sw:p']}]\n"
    )
    assert "links[0].endpoints[1]: there is one link for each member of 'h'" in line


def test_two_groups_are_not_linked() -> None:
    line = only_problem(
        "name: t\nnodes: {g: {count: 2}, h: {count: 3}}\nlinks: [{endpoints: [g, h]}]\n"
    )
    assert "both ends are groups" in line


def test_a_member_of_a_group_cannot_be_a_node_too() -> None:
    line = only_problem("name: t\nnodes: {h: {count: 3}, h2: }\n")
    assert "t.yaml:2: nodes.h2: the name 'h2' is taken by a member of the group 'h'" in line


def test_groups_cannot_blow_up() -> None:
    many = "".join(f"  g{i}x: {{count: 4096}}\n" for i in range(50))
    assert "204800 nodes with all groups" in only_problem(f"name: t\nnodes:\n{many}")
    links = "".join("  - endpoints: [h, s]\n" for _ in range(5000))
    text = f"name: t\nnodes: {{s: {{kind: switch}}, h: {{count: 4000}}}}\nlinks:\n{links}"
    assert "20000000 links with all groups" in only_problem(text)


def test_a_flood_of_faults_is_cut_short() -> None:
    text = PAIR + "".join(f"xkey{i}: 1\n" for i in range(20_000))
    found = problems(text)
    assert len(found) == 101
    assert found[-1].startswith("... and more")


def test_an_unreadable_link_makes_no_other_faults() -> None:
    text = HEAD + "links: [{endpoints: [a, 'r:e/0']}, {endpoints: [b, r]}]\ncaptures: [a, r:e0]\n"
    assert "endpoints[1]" in only_problem(text)


def test_a_missing_file_is_a_topology_error(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="No such file"):
        load(tmp_path / "x.yaml")


def test_files_and_texts_mean_the_same(tmp_path: Path) -> None:
    file = tmp_path / "pair.yaml"
    file.write_text(PAIR)
    assert load(str(file)) == loads(PAIR)
