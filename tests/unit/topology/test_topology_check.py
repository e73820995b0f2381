"""Semantic checks: the same for topologies made in Python and for those from YAML."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testbed.errors import TopologyError
from testbed.topology.checks.topology import check
from testbed.topology.model import (
    Endpoint,
    FunctionSpec,
    Impairments,
    Interface,
    Link,
    Node,
    Queue,
    QueueLimit,
    Route,
    RouteMetrics,
    Topology,
)
from testbed.topology.planning.plan import plan
from testbed.topology.yaml.load import loads


def link(a: str, b: str, **more: Any) -> Link:
    first, second = (Endpoint(*end.split(":")) for end in (a, b))
    return Link(endpoints=(first, second), **more)


def make(*nodes: Node, links: tuple[Link, ...] = (), **more: Any) -> Topology:
    return Topology(name="t", nodes={node.name: node for node in nodes}, links=links, **more)


A, B, C = Node(name="a"), Node(name="b"), Node(name="c")
R = Node(name="r", kind="router")
S, Z = Node(name="s", kind="switch"), Node(name="z", kind="switch")
BOX = Node(name="box", kind="middlebox", outside="a")
AB = link("a:x", "b:x")
BOX_LINKS = (link("a:x", "box:out"), link("box:in", "b:x"))


def metrics(**values: Any) -> Node:
    return Node(name="a", routes=(Route(to="b", metrics=RouteMetrics(**values)),))


def address(name: str, *addresses: str) -> Node:
    return Node(name=name, interfaces={"x": Interface(addresses=addresses)})


def test_good_topologies_pass() -> None:
    check(make(A))
    check(make(A, B, links=(AB,), captures=(Endpoint("a", "x"),)))
    check(make(A, B, BOX, links=BOX_LINKS))
    check(make(A, B, S, Z, links=(link("a:x", "s:1"), link("s:2", "z:1"), link("z:2", "b:x"))))
    check(make(address("a", "10.0.0.1/31"), address("b", "10.0.0.0/31"), links=(AB,)))


BAD = {
    "no nodes": (make(), "nodes: a topology needs at least one node"),
    "topology name": (Topology(name="T", nodes={"a": A}), "name: expected a name of lower-case"),
    "node name": (make(Node(name="a b")), "nodes.a b: expected a node name"),
    "key differs": (Topology(name="t", nodes={"b": A}), "nodes.b: the node under this key calls"),
    "kind": (make(msgspec.structs.replace(A, kind="hots")), "nodes.a.kind: expected"),
    "congestion control": (make(Node(name="a", congestion_control="Re no")), "such as reno"),
    "sysctl name": (make(Node(name="a", sysctls={"kernel.x": "1"})), "only net.* belongs"),
    "sysctl value": (make(Node(name="a", sysctls={"net.a.b": "1\n2"})), "one line"),
    "functions on a host": (
        make(Node(name="a", functions=(FunctionSpec("nat"),))),
        "nodes.a.functions: only a middlebox has functions, and a is a host",
    ),
    "outside on a router": (make(Node(name="a", kind="router", outside="b")), "only a middlebox"),
    "routes on a switch": (
        make(Node(name="s", kind="switch", routes=(Route(to="default"),))),
        "nodes.s.routes: a switch has no routes",
    ),
    "congestion control on a switch": (
        make(Node(name="s", kind="switch", congestion_control="reno")),
        "a switch has no congestion control",
    ),
    "addresses on a switch": (
        make(
            A,
            Node(name="s", kind="switch", interfaces={"x": Interface(addresses=("10.0.0.1/24",))}),
            links=(link("a:x", "s:x"),),
        ),
        "nodes.s.interfaces.x.addresses: interfaces of a switch have no addresses",
    ),
    "dangling": (make(A, links=(link("a:x", "bb:x"),)), "links[0].endpoints[1]: there is no node"),
    "bad interface": (make(A, B, links=(link("a:x/y", "b:x"),)), "an interface name"),
    "loop to itself": (make(A, links=(link("a:x", "a:y"),)), "joins 'a' to itself"),
    "used twice": (
        make(A, B, C, links=(AB, link("c:x", "b:x"))),
        "links[1].endpoints[1]: interface b:x is in use by links[0] already",
    ),
    "switch loop": (
        make(S, Z, links=(link("s:1", "z:1"), link("s:2", "z:2"))),
        "links[1]: this link closes a loop of switches",
    ),
    "delay": (make(A, B, links=(link("a:x", "b:x", forward=Impairments(delay=-1)),)), "0 to 1h"),
    "nan delay": (
        make(A, B, links=(link("a:x", "b:x", forward=Impairments(delay=float("nan"))),)),
        "links[0].forward.delay: expected 0 to 1h, got nan",
    ),
    "loss": (
        make(A, B, links=(link("a:x", "b:x", reverse=Impairments(loss=1.5)),)),
        "links[0].reverse.loss: expected 0 to 1, got 1.5",
    ),
    "rate": (make(A, B, links=(link("a:x", "b:x", forward=Impairments(rate=0)),)), "1 to 1e14"),
    "limit without rate": (
        make(
            A,
            B,
            links=(
                link(
                    "a:x",
                    "b:x",
                    forward=Impairments(queue=Queue(limit=QueueLimit(0.1, "seconds"))),
                ),
            ),
        ),
        "a limit of a duration needs a rate",
    ),
    "bdp without delay": (
        make(
            A,
            B,
            links=(
                link(
                    "a:x",
                    "b:x",
                    forward=Impairments(rate=1e6, queue=Queue(limit=QueueLimit(1, "bdp"))),
                ),
            ),
        ),
        "a limit in bdp needs a delay",
    ),
    "empty queue": (
        make(
            A,
            B,
            links=(
                link(
                    "a:x",
                    "b:x",
                    forward=Impairments(queue=Queue(limit=QueueLimit(0, "packets"))),
                ),
            ),
        ),
        "room for something",
    ),
    "mtu": (make(A, B, links=(link("a:x", "b:x", mtu=70000),)), "from 68 to 65521"),
    "unknown interface": (
        make(Node(name="a", interfaces={"y": Interface()}), B, links=(AB,)),
        "nodes.a.interfaces.y: no link ends in a:y; there is x",
    ),
    "box without outside": (
        make(A, B, Node(name="box", kind="middlebox"), links=BOX_LINKS),
        "nodes.box: a middlebox needs `outside:`, the neighbour (or own interface)",
    ),
    "box with unknown outside": (
        make(A, B, msgspec.structs.replace(BOX, outside="ab"), links=BOX_LINKS),
        "'ab' is neither an interface nor a neighbour of box",
    ),
    "box without inside": (
        make(A, BOX, links=(link("a:x", "box:out"), link("a:y", "box:in"))),
        "all interfaces are outside",
    ),
    "capture": (
        make(A, B, links=(AB,), captures=(Endpoint("a", "y"),)),
        "captures[0]: no link ends in a:y; there is x",
    ),
    "captured twice": (
        make(A, B, links=(AB,), captures=(Endpoint("a", "x"), Endpoint("a", "x"))),
        "captures[1]: a:x is captured twice",
    ),
    "two subnets": (
        make(A, B, links=(link("a:x", "b:x", subnets=("10.1.0.0/24", "10.2.0.0/24")),)),
        "links[0].subnet[1]: a second IPv4 subnet",
    ),
    "switch with two subnets": (
        make(
            A,
            B,
            S,
            links=(
                link("a:x", "s:1", subnets=("10.1.0.0/24",)),
                link("b:x", "s:2", subnets=("10.2.0.0/24",)),
            ),
        ),
        "10.2.0.0/24 is not the subnet of the link, 10.1.0.0/24",
    ),
    "overlap": (
        make(
            A,
            B,
            C,
            links=(
                link("a:x", "b:x", subnets=("10.1.0.0/24",)),
                link("b:y", "c:x", subnets=("10.1.0.0/24",)),
            ),
        ),
        "links[1].subnet[0]: 10.1.0.0/24 is the subnet of links[0].subnet[0] already, another "
        "link; a subnet can be there twice on links that are `private: true`",
    ),
    "overlap of IPv6": (
        make(
            A,
            B,
            C,
            links=(
                link("a:x", "b:x", subnets=("fd00:0:0:7::/64",)),
                link("b:y", "c:x", subnets=("fd00:0:0:7::/64",)),
            ),
        ),
        "is the subnet of links[0].subnet[0] already",
    ),
    "same subnet within another": (
        make(
            A,
            B,
            C,
            links=(
                link("a:x", "b:x", subnets=("10.0.0.0/12",)),
                link("b:y", "c:x", subnets=("10.1.0.0/24",)),
                link("a:y", "c:y", subnets=("10.1.0.0/24",)),
            ),
        ),
        "links[2].subnet[0]: 10.1.0.0/24 is the subnet of links[1].subnet[0] already",
    ),
    "same private subnet, one region": (
        make(
            A,
            R,
            C,
            links=(
                link("a:x", "r:x", subnets=("10.1.0.0/24",), private=True),
                link("r:y", "c:x", subnets=("10.1.0.0/24",), private=True),
            ),
        ),
        "links[1].subnet[0]: 10.1.0.0/24 is the subnet of links[0].subnet[0] already, another link",
    ),
    "private subnet that its node has in public, too": (
        make(
            A,
            R,
            C,
            links=(
                link("a:x", "r:x", subnets=("10.1.0.0/24",), private=True),
                link("r:y", "c:x", subnets=("10.1.0.0/24",)),
            ),
        ),
        "already, and r would be on both",
    ),
    "both families ruled out": (
        make(
            A,
            B,
            S,
            links=(link("a:x", "s:1", family="ipv4"), link("s:2", "b:x", family="ipv6")),
        ),
        "links[1].family: its links are for IPv4 alone and for IPv6 alone",
    ),
    "IPv6 alone and a small MTU": (
        make(A, B, links=(link("a:x", "b:x", family="ipv6", mtu=1000),)),
        "links[0].mtu: IPv6 needs an MTU of 1280, and the link has no IPv4",
    ),
    "subnet of a family ruled out": (
        make(A, B, links=(link("a:x", "b:x", family="ipv4", subnets=("fd00::/64",)),)),
        "links[0].subnet[0]: fd00::/64 is IPv6, which the `family` of the link rules out",
    ),
    "a whole subnet on a loopback interface": (
        make(
            Node(name="a", interfaces={"lo": Interface(addresses=("10.9.0.1/24",))}), B, links=(AB,)
        ),
        "nodes.a.interfaces.lo.addresses[0]: an address of lo stands for itself alone: write /32",
    ),
    "one loopback address of two nodes": (
        make(
            *(
                Node(name=name, interfaces={"lo": Interface(addresses=("10.9.0.1/32",))})
                for name in "ab"
            ),
            links=(AB,),
        ),
        "10.9.0.1 is given to nodes.a.interfaces.lo.addresses[0] already",
    ),
    "too small": (
        make(
            A,
            B,
            C,
            S,
            links=(
                link("a:x", "s:1", subnets=("10.1.0.0/30",)),
                link("b:x", "s:2"),
                link("c:x", "s:3"),
            ),
        ),
        "10.1.0.0/30 has room for 2 addresses, the link needs 3",
    ),
    "address outside": (
        make(address("a", "10.2.0.1/24"), B, links=(link("a:x", "b:x", subnets=("10.1.0.0/24",)),)),
        "10.2.0.0/24 is not the subnet of the link, 10.1.0.0/24",
    ),
    "addresses disagree": (
        make(address("a", "10.2.0.1/24"), address("b", "10.2.0.2/16"), links=(AB,)),
        "10.2.0.0/16 is not the subnet",
    ),
    "duplicate address": (
        make(address("a", "10.2.0.1/24"), address("b", "10.2.0.1/24"), links=(AB,)),
        "nodes.b.interfaces.x.addresses[0]: 10.2.0.1 is given to nodes.a",
    ),
    "network address": (make(address("a", "10.2.0.0/24"), B, links=(AB,)), "the subnet itself"),
    "broadcast address": (make(address("a", "10.2.0.255/24"), B, links=(AB,)), "broadcast"),
    "anycast address": (make(address("a", "fd01::/64"), B, links=(AB,)), "the subnet itself"),
    "multicast": (make(address("a", "224.0.0.1/24"), B, links=(AB,)), "multicast"),
    "link-local": (make(address("a", "fe80::1/64"), B, links=(AB,)), "link-local"),
    "no prefix length": (make(address("a", "10.0.0.1"), B, links=(AB,)), "forget the prefix"),
    "IPv6 on a small link": (
        make(A, B, links=(link("a:x", "b:x", mtu=1279, subnets=("fd01::/64",)),)),
        "IPv6 needs an MTU of 1280, and the link has 1279",
    ),
    "route to nobody": (
        make(Node(name="a", routes=(Route(to="bb"),)), B, links=(AB,)),
        "nodes.a.routes[0].to: there is no node 'bb'; did you mean 'b'?",
    ),
    "route to itself": (make(Node(name="a", routes=(Route(to="a"),))), "to the node itself"),
    "route to a switch": (
        make(Node(name="a", routes=(Route(to="s"),)), S, links=(link("a:x", "s:1"),)),
        "s is a switch, which has no address",
    ),
    "route to nowhere": (
        make(Node(name="a", routes=(Route(to="c"),)), B, C, links=(AB, link("b:y", "c:x"))),
        "nodes.a.routes[0].to: there is no path from a to c",
    ),
    "route to bad prefix": (
        make(Node(name="a", routes=(Route(to="10.0.0.1/8"),)), B, links=(AB,)),
        "host bits set",
    ),
    "via nobody": (
        make(Node(name="a", routes=(Route(to="b", via="rr"),)), B, links=(AB,)),
        "nodes.a.routes[0].via: there is no node 'rr'",
    ),
    "via a stranger": (
        make(
            Node(name="a", routes=(Route(to="b", via="c"),)), B, C, links=(AB, link("b:y", "c:x"))
        ),
        "c is no neighbour of a",
    ),
    "via no address": (
        make(Node(name="a", routes=(Route(to="b", via="10.0.0"),)), B, links=(AB,)),
        "expected a node or an address",
    ),
    "rto_min": (make(metrics(rto_min=0), B, links=(AB,)), "rto_min: expected more than 0"),
    "rto_min too long": (make(metrics(rto_min=121.0), B, links=(AB,)), "at most 2min, got 121s"),
    "initcwnd": (make(metrics(initcwnd=0), B, links=(AB,)), "initcwnd: expected a whole number"),
    "initrwnd": (make(metrics(initrwnd=-1), B, links=(AB,)), "initrwnd: expected a whole number"),
    "advmss": (make(metrics(advmss=0), B, links=(AB,)), "advmss: expected a whole number"),
    "route mtu": (make(metrics(mtu=10), B, links=(AB,)), "mtu: expected a whole number"),
    "route congestion control": (
        make(metrics(congestion_control="a/b"), B, links=(AB,)),
        "such as reno",
    ),
    "too many nodes": (
        Topology(name="t", nodes={f"n{i}": Node(name=f"n{i}") for i in range(5001)}),
        "5001 nodes; at most 5000",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_topologies_are_refused(name: str) -> None:
    topology, says = BAD[name]
    with pytest.raises(TopologyError) as caught:
        check(topology)
    assert len(caught.value.problems) == 1, caught.value
    assert says in str(caught.value)
    with pytest.raises(TopologyError) as caught:
        plan(topology)
    assert says in str(caught.value)


def test_all_faults_are_told() -> None:
    topology = make(
        Node(name="a", sysctls={"kernel.x": "1"}, routes=(Route(to="q"),)),
        links=(link("a:x", "b:x"), link("a:y", "a:z")),
        captures=(Endpoint("a", "w"),),
    )
    with pytest.raises(TopologyError) as caught:
        check(topology)
    assert len(caught.value.problems) == 5


def test_faults_of_yaml_are_shown_where_they_stand() -> None:
    text = """\
name: t
nodes:
  a: {interfaces: {x: {addresses: [10.1.0.9/24]}}}
  b:
    interfaces:
      x:
        addresses:
          - 10.1.0.9/24
links:
  - endpoints: [a:x, b:x]
    subnet:
      - 10.1.0.0/24
      - fd00::/64
  - endpoints: [a:y, b:y]
    subnet: 10.1.0.0/24
"""
    with pytest.raises(TopologyError) as caught:
        loads(text, "t.yaml")
    assert caught.value.problems == (
        "t.yaml:8: nodes.b.interfaces.x.addresses[0]: 10.1.0.9 is given to "
        "nodes.a.interfaces.x.addresses[0] already",
        "t.yaml:15: links[1].subnet: 10.1.0.0/24 is the subnet of links[0].subnet[0] already, "
        "another link; a subnet can be there twice on links that are `private: true`, behind "
        "different nodes",
    )
