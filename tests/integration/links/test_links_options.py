"""Every option of a link, between every kind of node, under every emulator: refused or in force."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from testbed import Lab, loads
from testbed.errors import TopologyError
from testbed.kernel.netlink.ethtool import Offloads
from testbed.kernel.netlink.socket import Netlink
from testbed.lab.link import LabLink
from testbed.lab.node import LabNode
from testbed.topology.model import Impairments
from testbed.topology.yaml.link_grammar import IMPAIRMENTS, LINK

# What is no option: which nodes, what is made of other keys, and what shows elsewhere (of
# `private`, in the routes of others: tests/integration/lab/test_lab_networks.py).
STRUCTURE = {"endpoints", "forward", "reverse", "private"}
IN_FORCE = {
    "rate": ("10mbit", "rate", 10e6),
    "overhead": ("8", "overhead", 8),
    "queue": ("50 packets", "queue", None),
    "delay": ("2ms", "delay", 0.002),
    "jitter": ("1ms", "jitter", None),
    "loss": ("1%", "loss", 0.01),
    "drop": ("[{packet: 1000}]", "drop", None),
    "duplicate": ("1%", "duplicate", None),
    "reorder": ("1%", "reorder", None),
    "corrupt": ("1%", "corrupt", None),
    "match": ("[{to: b, delay: 5ms}]", "match", None),
}
# Options that need another beside them.
BESIDE = {"overhead": "rate: 10mbit, ", "queue": "rate: 10mbit, ", "reorder": "delay: 2ms, "}


def interfaces(lab: Lab, link: LabLink) -> list[tuple[LabNode, str]]:
    ends = (link.planned.a, link.planned.b)
    return [(lab[end.node], end.name) for end in ends]


def has_mtu(lab: Lab, link: LabLink) -> bool:
    return all(
        "mtu 1400 " in node.run(["ip", "link", "show", name]).stdout
        for node, name in interfaces(lab, link)
    )


def segments_by(name: str) -> bool:
    """Whether an interface of this thread's namespace leaves segmentation to the next one."""
    with Netlink() as netlink:
        return "tx-tcp-segmentation" in Offloads(netlink).active(netlink, name)


def has_offload(lab: Lab, link: LabLink) -> bool:
    return all(node.namespace.call(segments_by, name) for node, name in interfaces(lab, link))


def has_subnet(lab: Lab, link: LabLink) -> bool:
    found = [
        ipaddress.ip_interface(address)
        for node, name in interfaces(lab, link)
        for address in re.findall(
            r"inet ([\d./]+)", node.run(["ip", "-4", "address", "show", name]).stdout
        )
    ]
    wanted = ipaddress.ip_network("10.77.0.0/16")
    kinds = [lab.topology.nodes[node.name].kind for node, _ in interfaces(lab, link)]
    return len(found) == 2 - kinds.count("switch") and all(one.ip in wanted for one in found)


def has_ipv6_alone(lab: Lab, link: LabLink) -> bool:
    found = [
        re.findall(r"inet6? ", node.run(["ip", "address", "show", name]).stdout)
        for node, name in interfaces(lab, link)
        if lab.topology.nodes[node.name].kind != "switch"
    ]
    return all(one and set(one) == {"inet6 "} for one in found)


def follows_its_schedule(lab: Lab, link: LabLink) -> bool:
    limit = time.monotonic() + 20
    while not link.events:
        assert time.monotonic() < limit
        time.sleep(0.001)  # by the virtual clock nobody else runs before
    return link.impairments("forward").loss == pytest.approx(0.02)


OTHERS: dict[str, tuple[str, Callable[[Lab, LabLink], bool]]] = {
    "schedule": (
        "[{at: 0ms, loss: 2%}]",
        follows_its_schedule,
    ),
    "log": ("true", lambda lab, link: Path(link.fates).exists()),
    "mtu": ("1400", has_mtu),
    "offload": ("true", has_offload),
    "emulated": ("true", lambda lab, link: link.emulator is not None),
    "subnet": ("10.77.{}.0/24", has_subnet),
    "family": ("ipv6", has_ipv6_alone),
}


def topology(option: str, value: str, emulator: str, emulated: bool) -> str:
    """A host, a router, a middlebox, a switch and a host in a row."""
    row = ("a", "router", "box", "switch", "b")
    plain = "" if not emulated or option == "emulated" else "emulated: true, "
    links = "\n".join(
        f"  - {{endpoints: [{one}, {other}], {plain}{BESIDE.get(option, '')}"
        f"{option}: {value.replace('{}', str(number))}}}"
        for number, (one, other) in enumerate(pairwise(row))
    )
    if option == "subnet":  # both links of the switch are one network
        links = links.replace("10.77.3.0", "10.77.2.0")
    return f"""
name: walk
emulator: {emulator}
nodes: {{a: , router: {{kind: router}}, box: {{kind: middlebox, outside: router}},
  switch: {{kind: switch}}, b: }}
links:
{links}
"""


def is_in_force(lab: Lab, link: LabLink, option: str) -> bool:
    if option not in IN_FORCE:
        return OTHERS[option][1](lab, link)
    _, field, wanted = IN_FORCE[option]
    found = {getattr(link.impairments(direction), field) for direction in ("forward", "reverse")}
    (value,) = found
    if wanted is None:
        return value != getattr(Impairments(), field) and value == getattr(
            link.planned.forward, field
        )
    return value == pytest.approx(wanted)


def test_the_walk_leaves_no_option_out():
    assert {key.name for key in LINK.keys} - STRUCTURE == {*IN_FORCE, *OTHERS}
    assert {key.name for key in IMPAIRMENTS} == {*IN_FORCE}


@pytest.mark.parametrize("emulated", [True, False], ids=["emulated", "plain"])
@pytest.mark.parametrize("option", [*IN_FORCE, *OTHERS])
def test_what_is_accepted_is_in_force(emulator, option, emulated):
    value = (IN_FORCE[option] if option in IN_FORCE else OTHERS[option])[0]
    text = topology(option, value, emulator, emulated)
    try:
        with Lab(loads(text)) as lab:
            assert len(lab.links) == 4
            for link in lab.links:
                assert is_in_force(lab, link, option), (link, option)
    except TopologyError as refusal:
        words = {"log": "log", "drop": "script", "offload": "offload", "match": "match"}
        assert words[option] in str(refusal), refusal
