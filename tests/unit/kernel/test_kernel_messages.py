"""Requests that are filled into templates equal what pyroute2 encodes from the real values."""

from __future__ import annotations

import socket

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from testbed.errors import KernelError
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.rtnetlink import LinkEnd, Metrics
from testbed.kernel.netlink.shape import Shape, number

CREATE = 0x401 | 0x200  # NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL


def decoded(kind, request):
    message = kind(request.data)
    message.decode()
    return message


@pytest.mark.parametrize("host", ["10.1.2.3", "fd00:1::9"])
@pytest.mark.parametrize("index", [2, 70000])
def test_an_address(host, index):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = family, 24, index
    flags = 0x80 | (2 if family == socket.AF_INET6 else 0)
    message["attrs"] = [["IFA_LOCAL", host], ["IFA_ADDRESS", host], ["IFA_FLAGS", flags]]
    message["header"]["type"], message["header"]["flags"] = 20, CREATE
    message.encode()
    request = rtnetlink.add_address(index, "eth0", f"{host}/24")
    assert request.data == bytes(message.data)
    assert request.purpose == f"give eth0 the address {host}/24"


def test_a_veth_has_both_ends():
    a = LinkEnd(namespace=17, name="eth0", index=5, mac="02:00:00:00:00:01", mtu=1400)
    b = LinkEnd(namespace=9, name="a-long-name-15b", index=6, mac="02:00:00:00:00:02", mtu=9000)
    message = decoded(ifinfmsg, rtnetlink.veth(a, b))
    peer = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    for end, found in ((a, message), (b, peer)):
        assert found["index"] == end.index
        assert found.get_attr("IFLA_IFNAME").rstrip("\0") == end.name
        assert found.get_attr("IFLA_ADDRESS") == end.mac
        assert found.get_attr("IFLA_MTU") == end.mtu
        assert found.get_attr("IFLA_NET_NS_FD") == end.namespace


@pytest.mark.parametrize("destination", ["10.0.0.0/8", "0.0.0.0/0", "fd00::/16", "::/0"])
@pytest.mark.parametrize("through_gateway", [True, False])
@pytest.mark.parametrize("metrics", [None, Metrics(rto_min=1000, initcwnd=3, cc_algo="reno")])
def test_a_route(destination, through_gateway, metrics):
    network, length = destination.split("/")
    gateway = ("fd00::7" if ":" in destination else "10.9.9.9") if through_gateway else None
    request = rtnetlink.add_route(destination, 3, via=gateway, metrics=metrics)
    message = decoded(rtmsg, request)
    assert message["dst_len"] == int(length)
    assert message["family"] == rtnetlink.family_of(destination)
    assert message.get_attr("RTA_OIF") == 3
    assert message.get_attr("RTA_DST") == (network if int(length) else None)
    assert message.get_attr("RTA_GATEWAY") == gateway
    found = message.get_attr("RTA_METRICS")
    if metrics is None:
        assert found is None
    else:
        assert found.get_attr("RTAX_RTO_MIN") == 1000
        assert found.get_attr("RTAX_INITCWND") == 3
        assert found.get_attr("RTAX_CC_ALGO") == "reno"


def test_a_neighbour_and_a_rule():
    message = decoded(ndmsg, rtnetlink.add_neighbour(4, "10.0.0.2", "02:00:00:00:00:09"))
    assert message["ifindex"] == 4
    assert message.get_attr("NDA_DST") == "10.0.0.2"
    assert message.get_attr("NDA_LLADDR") == "02:00:00:00:00:09"
    message = decoded(fibmsg, rtnetlink.add_interface_rule(socket.AF_INET, "outside", 101, 100))
    assert message.get_attr("FRA_IIFNAME").rstrip("\0") == "outside"
    assert message.get_attr("FRA_TABLE") == 101


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_rule_for_packets_to_one_address(host):
    request = rtnetlink.add_claim_rule(host, "outside", 17, 101, 10)
    message = decoded(fibmsg, request)
    assert message["dst_len"] == (128 if ":" in host else 32)
    assert message["family"] == rtnetlink.family_of(host)
    assert message.get_attr("FRA_DST") == host
    assert message.get_attr("FRA_IIFNAME").rstrip("\0") == "outside"
    assert message.get_attr("FRA_IP_PROTO") == 17
    assert (message.get_attr("FRA_TABLE"), message.get_attr("FRA_PRIORITY")) == (101, 10)


@pytest.mark.parametrize(("family", "protocol"), [(socket.AF_INET, 1), (socket.AF_INET6, 58)])
def test_a_rule_for_icmp_messages_of_the_node_itself(family, protocol):
    message = decoded(fibmsg, rtnetlink.add_icmp_rule(family, 3, (0, 4), 103, 20))
    assert message.get_attr("FRA_IIFNAME").rstrip("\0") == "lo"
    assert message.get_attr("FRA_IP_PROTO") == protocol
    assert message.get_attr("FRA_DPORT_RANGE") == "768:772"
    assert (message.get_attr("FRA_TABLE"), message.get_attr("FRA_PRIORITY")) == (103, 20)


def test_the_local_rule_is_added_elsewhere_before_it_is_removed():
    added, removed = (
        decoded(fibmsg, one) for one in rtnetlink.move_local_rule(socket.AF_INET6, 50)
    )
    assert (added["header"]["type"], removed["header"]["type"]) == (32, 33)
    assert (added.get_attr("FRA_PRIORITY"), removed.get_attr("FRA_PRIORITY")) == (50, 0)
    for message in (added, removed):
        assert message.get_attr("FRA_TABLE") == 255 and message["family"] == socket.AF_INET6


@pytest.mark.parametrize("master", [None, 900])
@pytest.mark.parametrize("mac", [None, "02:00:00:00:00:05"])
def test_settings_of_a_link(master, mac):
    request = rtnetlink.set_link(7, "eth0", up=True, master=master, mac_address=mac, mtu=1280)
    message = decoded(ifinfmsg, request)
    assert (message["index"], message["flags"], message["change"]) == (7, 1, 1)
    assert message.get_attr("IFLA_MASTER") == master
    assert message.get_attr("IFLA_ADDRESS") == mac
    assert message.get_attr("IFLA_MTU") == 1280


def test_what_stays_as_it_is_is_not_in_the_message():
    message = decoded(ifinfmsg, rtnetlink.set_link(7, "eth0"))
    assert (message["flags"], message["change"], message["attrs"]) == (0, 0, [])


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "ünïcödé-nämé"])
def test_a_name_that_no_interface_can_have_is_refused(name):
    with pytest.raises(KernelError, match="cannot be the name of an interface"):
        rtnetlink.bridge(name, 3)


def test_a_value_that_looks_like_another_mark_stays_what_it_is():
    # Filling in one field must not be taken for the mark of the next.
    from testbed.kernel.netlink.shape import NUMBERS

    message = decoded(ifinfmsg, rtnetlink.set_link(NUMBERS[1], "eth0", master=6))
    assert message["index"] == NUMBERS[1]
    assert message.get_attr("IFLA_MASTER") == 6


def test_a_mark_that_is_not_in_the_message_is_noticed():
    with pytest.raises(AssertionError):
        Shape(16, 0, ifinfmsg(), [number(0x12345678)])
