"""Networks that people bring: one family, private and nested subnets, loopback addresses."""

from __future__ import annotations

import pytest

from testbed.errors import TopologyError
from testbed.topology.model import ScheduledChange
from testbed.topology.planning.plan import plan
from testbed.topology.planning.plan_model import Plan
from testbed.topology.yaml.load import loads

HOMES = """
nodes:
  pc1:
  pc2:
  nat1: {kind: router}
  nat2: {kind: router}
  isp: {kind: router}
  server:
links:
  - {endpoints: [pc1, nat1], subnet: 192.168.1.0/24, family: ipv4, private: true}
  - {endpoints: [pc2, nat2], subnet: 192.168.1.0/24, family: ipv4, private: true}
  - [nat1, isp]
  - [nat2, isp]
  - [isp, server]
""".replace("- [", "- {endpoints: [").replace("]\n", "]}\n")


def planned(text: str) -> Plan:
    return plan(loads("name: t\n" + text))


def routes(found: Plan, node: str) -> dict[str, str | None]:
    return {one.destination: one.via for one in found.nodes[node].routes}


def test_two_private_links_have_the_same_subnet_and_nobody_outside_a_route_to_it():
    found = planned(HOMES)
    assert found.addresses("pc1") == found.addresses("pc2") == ("192.168.1.1",)
    assert not found.addresses("pc1", 6)
    for node in ("isp", "server", "nat1", "nat2"):
        assert "192.168.1.0/24" not in routes(found, node)
    assert routes(found, "pc1") == {"0.0.0.0/0": "192.168.1.2"}
    # Each NAT's own way to everything that is public.
    assert set(routes(found, "nat1").values()) == {
        found.nodes["isp"].interfaces[0].addresses[0].split("/")[0],
        found.nodes["isp"].interfaces[0].addresses[1].split("/")[0],
    }


def test_a_name_stands_for_no_address_that_is_private_to_others():
    found = planned(HOMES)
    own, other = ("192.168.1.1", "pc1"), ("192.168.1.1", "pc2")
    assert own in found.names("pc1") and other not in found.names("pc1")
    assert other in found.names("nat2") and other not in found.names("server")
    assert found.address("pc2", seen_from="pc1") is None
    public = found.nodes["nat2"].interfaces[1].addresses[0].split("/")[0]
    assert found.address("nat2", seen_from="pc1") == public
    assert found.address("nat2", seen_from="pc2") == "192.168.1.2"


def test_a_private_region_goes_on_behind_its_routers():
    """pc is two routers away from the border, and both private links reach each other."""
    found = planned("""
nodes: {pc: , inner: {kind: router}, border: {kind: router}, server: }
links:
  - {endpoints: [pc, inner], private: true}
  - {endpoints: [inner, border], private: true}
  - {endpoints: [border, server]}
""")
    pc, server = found.addresses("pc")[0], found.addresses("server")[0]
    assert f"{pc.rsplit('.', 1)[0]}.0/24" in routes(found, "border")
    assert f"{server.rsplit('.', 1)[0]}.0/24" in routes(found, "inner")
    assert routes(found, "server") == {
        "0.0.0.0/0": found.nodes["border"].interfaces[1].addresses[0].split("/")[0],
        "::/0": found.nodes["border"].interfaces[1].addresses[1].split("/")[0],
    }


def test_a_nested_subnet_has_its_own_route_and_its_addresses_are_left_free():
    found = planned("""
nodes: {a: , r: {kind: router}, q: {kind: router}, b: }
links:
  - {endpoints: [a, r], subnet: 10.8.0.0/16}
  - {endpoints: [r, q]}
  - {endpoints: [q, b], subnet: 10.8.0.0/24}
""")
    assert found.addresses("a") == ("10.8.1.0",)
    assert found.addresses("b") == ("10.8.0.2",)
    assert routes(found, "a")["10.8.0.0/24"] == "10.8.1.1"  # not on its own link
    assert routes(found, "r")["10.8.0.0/24"] == found.addresses("q")[0]
    assert routes(found, "b")["0.0.0.0/0"] == "10.8.0.1"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        (["10.0.0.0/30"], "no room for r:eth0"),  # but 10.0.0.7, the broadcast address
        (["10.0.0.0/30", "10.0.0.4/30"], "no room for a:eth0"),
    ],
)
def test_subnets_that_leave_no_room_around_them_are_refused(inner, told):
    links = "\n".join(
        f"  - {{endpoints: [r, b{number}], subnet: {subnet}}}"
        for number, subnet in enumerate(inner)
    )
    with pytest.raises(TopologyError, match=rf"10\.0\.0\.0/29 has {told} beside the subnets"):
        planned(f"""
nodes: {{a: , c: , d: , e: {{kind: switch}}, r: {{kind: router}}, b0: , b1: }}
links:
  - {{endpoints: [a, e], subnet: 10.0.0.0/29}}
  - {{endpoints: [c, e]}}
  - {{endpoints: [d, e]}}
  - {{endpoints: [e, r]}}
{links}
""")


@pytest.mark.parametrize("private", ["", ", private: true"])
def test_an_address_that_is_hidden_by_a_subnet_within_its_own_is_refused(private):
    text = f"""
nodes:
  a: {{interfaces: {{eth0: {{addresses: [10.8.1.9/16]}}}}}}
  r: {{kind: router}}
  q: {{kind: router}}
  b:
links:
  - {{endpoints: [a, r]}}
  - {{endpoints: [r, q]}}
  - {{endpoints: [q, b], subnet: 10.8.1.0/24{private}}}
"""
    if private:  # nobody outside has a route to it
        assert planned(text).addresses("a") == ("10.8.1.9",)
    else:
        with pytest.raises(TopologyError, match=r"10\.8\.1\.9 lies in 10\.8\.1\.0/24"):
            planned(text)


def test_chosen_subnets_keep_out_of_the_largest_of_nested_ones():
    found = planned("""
nodes: {a: , r: {kind: router}, b: , c: }
links:
  - {endpoints: [a, r], subnet: 10.0.0.0/16}
  - {endpoints: [r, b], subnet: 10.0.1.0/24}
  - {endpoints: [r, c]}
""")
    assert found.addresses("c") == ("10.1.0.2",)


@pytest.mark.parametrize(
    ("text", "families"),
    [("family: ipv6", {6}), ("family: ipv4", {4}), ("", {4, 6})],
)
def test_a_network_has_the_families_that_it_asks_for(text, families):
    found = planned(f"{text}\nnodes: {{a: , b: }}\nlinks: [{{endpoints: [a, b]}}]")
    for family in (4, 6):
        assert bool(found.addresses("a", family)) == (family in families)
    assert found.address("a") == found.addresses("a", min(families))[0]
    assert {":" in one.address for one in found.nodes["a"].neighbours} == {
        family == 6 for family in families
    }


def test_one_link_differs_from_the_others():
    found = planned("""
family: ipv4
nodes: {a: , b: , c: }
links:
  - {endpoints: [a, b]}
  - {endpoints: [b, c], family: both}
""")
    assert (found.addresses("a", 6), len(found.addresses("b", 6))) == ((), 1)


def test_a_name_stands_for_the_preferred_family_or_for_one_that_both_have():
    text = (
        "nodes: {a: , b: , r: {kind: router}}\nlinks: [{endpoints: [a, r]%s}, {endpoints: [r, b]}]"
    )
    found = planned(text % "")
    assert found.address("b") == found.addresses("b")[0]
    assert planned("prefer: ipv6\n" + text % "").address("b") == found.addresses("b", 6)[0]
    found = planned(text % ", family: ipv6")
    assert found.address("b", seen_from="a") == found.addresses("b", 6)[0]
    assert found.address("b", seen_from="r") == found.addresses("b")[0]


LOOPBACKS = """
nodes:
  a:
  r: {kind: router, interfaces: {lo: {addresses: [10.255.0.1/32, "fd00:ff::1/128"]}}}
  q: {kind: router}
  b: {congestion_control: reno, interfaces: {lo: {addresses: [10.255.0.2/32]}}}
  c:
  s: {kind: switch}
links:
  - {endpoints: [a, r]}
  - {endpoints: [r, q]}
  - {endpoints: [q, s]}
  - {endpoints: [b, s]}
  - {endpoints: [c, s]}
"""


def test_everybody_has_a_way_to_loopback_addresses():
    found = planned(LOOPBACKS)
    assert found.nodes["r"].loopback == ("10.255.0.1/32", "fd00:ff::1/128")
    assert found.addresses("r")[-1] == "10.255.0.1"
    q, b = found.addresses("q")[-1], found.addresses("b")[0]
    assert routes(found, "q")["10.255.0.2/32"] == b
    assert routes(found, "c") == {
        "0.0.0.0/0": q,
        "10.255.0.2/32": b,  # on its own link, and not behind its router
        "::/0": found.addresses("q", 6)[-1],
    }
    assert set(routes(found, "a")) == {"0.0.0.0/0", "::/0"}
    assert routes(found, "q")["fd00:ff::1/128"] == found.addresses("r", 6)[1]
    # Its own loopback address is no destination of which the congestion control is set.
    assert "10.255.0.2/32" not in routes(found, "b")


def test_a_cable_is_pulled_out_and_put_back_by_a_schedule():
    text = "nodes: {a: , b: }\nlinks: [{endpoints: [a, b], schedule: [%s]}]"
    (link,) = planned(text % "{at: 1s, unplug: true}, {at: 2s, plug: true}").links
    assert link.schedule == (
        ScheduledChange(at=1.0, plugged=False),
        ScheduledChange(at=2.0, plugged=True),
    )
    for wrong, told in {
        "{at: 1s, plug: true, unplug: true}": "both `unplug` and `plug`; one of them",
        "{at: 1s, unplug: true, direction: forward}": "a cable is pulled out in both directions",
    }.items():
        with pytest.raises(TopologyError, match=told):
            planned(text % wrong)


VLANS = """
nodes:
  a:
  b:
  c:
  d:
  s1: {kind: switch, interfaces: {port1: {vlan: 10}, port2: {vlan: 20}, up: {%s}}}
  s2: {kind: switch, interfaces: {port1: {vlan: 10}, port2: {vlan: 20}, up: {%s}}}
links:
  - {endpoints: [a, s1:port1]}
  - {endpoints: [b, s1:port2]}
  - {endpoints: [c, s2:port1]}
  - {endpoints: [d, s2:port2]}
  - {endpoints: [s1:up, s2:up]}
"""


def subnets(found: Plan) -> dict[str, str]:
    return {name: found.addresses(name)[0].rsplit(".", 1)[0] for name in "abcd"}


def test_each_vlan_of_a_switch_is_a_network_and_tags_lead_all_of_them_over_one_link():
    one = subnets(planned(VLANS % ("vlans: [10, 20]", "vlans: [10, 20]")))
    assert one["a"] == one["c"] != one["b"] == one["d"]
    one = subnets(planned(VLANS % ("vlans: [20]", "vlans: [20]")))
    assert one["b"] == one["d"] and one["a"] != one["c"]


def test_frames_without_tags_change_the_vlan_as_over_any_cable():
    one = subnets(planned(VLANS % ("vlan: 10", "vlan: 20")))
    assert one["a"] == one["d"] and len({*one.values()}) == 3


def test_two_links_between_switches_are_no_loop_where_they_carry_different_vlans():
    text = VLANS % ("vlan: 10", "vlan: 10") + "  - {endpoints: [s1:two, s2:two]}\n"
    one = subnets(planned(text))
    assert one["a"] == one["c"] and one["b"] != one["d"]
    text = VLANS % ("vlans: [10, 20]", "vlans: [10, 20]")
    for number in (10, 20):
        loop = text.replace("port2: {vlan: 20}", f"port2: {{vlan: 20}}, two: {{vlan: {number}}}")
        with pytest.raises(TopologyError, match=r"links\[5\]: this link closes a loop"):
            planned(loop + "  - {endpoints: [s1:two, s2:two]}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (VLANS % ("vlans: [10]", "vlans: [10, 20]"), "of which there are 10 and 10 and 20"),
        (VLANS % ("vlans: [10]", "vlan: 10"), "of which there are 10 and none"),
        (VLANS % ("vlan: 10, vlans: [10]", "vlans: [10]"), "one of the two"),
        (VLANS % ("vlan: 4095", "vlan: 1"), "a whole number from 1 to 4094"),
        (
            "nodes: {a: {interfaces: {x: {vlan: 3}}}, b: }\nlinks: [{endpoints: [a:x, b]}]",
            "only interfaces of a switch have VLANs, and a is a host",
        ),
        (
            VLANS.replace("s2:up]", "s2:up], subnet: 10.9.0.0/24") % (("vlans: [10]",) * 2),
            "a link of several VLANs has no subnet",
        ),
    ],
)
def test_vlans_that_make_no_sense_are_refused(text, told):
    with pytest.raises(TopologyError, match=told):
        planned(text)
