"""Files of containerlab as topologies: what means the same is there, what does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing_bench import Bench

from testbed.topology.importing.containerlab import containerlab
from testbed.topology.model import Interface


@pytest.fixture
def bench(tmp_path):
    for name in ("conf", "more"):
        (tmp_path / name).mkdir()
    return Bench(containerlab, tmp_path)


def lab(nodes: str, links: str = "[]", rest: str = "") -> str:
    return f"name: t\ntopology:\n  nodes: {nodes}\n  links: {links}\n{rest}"


LINUX = "kind: linux, image: i"
PAIR = f"{{a: {{{LINUX}}}, b: {{{LINUX}}}, s: {{kind: bridge}}}}"


@pytest.mark.parametrize(
    ("keys", "setting", "value"),
    [
        ("cmd: sleep infinity", "command", ("sleep", "infinity")),
        ("env: {A: 1, B: yes}", "environment", {"A": "1", "B": "yes"}),
        ("cap-add: [NET_RAW]", "capabilities", ("NET_RAW",)),
        ("cpu: 1.5", "cpus", 1.5),
        ("memory: 1Gb", "memory", 1 << 30),
    ],
)
def test_settings_of_a_node(bench, keys, setting, value):
    made = bench(lab(f"{{a: {{{LINUX}, {keys}}}}}"))
    assert made.topology.nodes["a"].settings == {"image": "i", setting: value}
    assert made.left_out == []


def test_sysctls_and_health(bench):
    check = "{test: [CMD, true], start-period: 2, interval: 1, timeout: 1, retries: 4}"
    keys = f"sysctls: {{net.ipv4.ip_forward: 1}}, healthcheck: {check}"
    node = bench(lab(f"{{a: {{{LINUX}, {keys}}}}}")).topology.nodes["a"]
    assert node.sysctls == {"net.ipv4.ip_forward": "1"}
    assert (node.settings["health"].command, node.settings["health"].deadline) == (("true",), 10)


LEVELS = """
name: t
topology:
  defaults: {kind: linux, image: i0, env: {A: 0, B: 0, C: 0, D: 0}, binds: ['conf:/c:ro']}
  kinds: {linux: {image: i1, cmd: c1, env: {B: 1, C: 1, D: 1}}}
  groups: {g: {cmd: c2, env: {C: 2, D: 2}}}
  nodes:
    a: {group: g, env: {D: 3}, binds: ['more:/c', './more:/m:rw']}
    b:
"""


def test_later_levels_override_and_variables_are_put_together(bench):
    nodes = bench(LEVELS).topology.nodes
    a, b = (nodes[name].settings for name in "ab")
    assert (a["image"], a["command"]) == ("i1", ("c2",))
    assert a["environment"] == {"A": "0", "B": "1", "C": "2", "D": "3"}
    mounts = [(Path(one.source).name, one.target, one.writable) for one in a["mounts"]]
    assert mounts == [("more", "/c", True), ("more", "/m", True)]
    assert (b["command"], b["mounts"][0].writable) == (("c1",), False)


def test_a_remark_on_what_all_inherit_is_told_once(bench):
    text = LEVELS.replace("kind: linux,", "kind: linux, labels: {x: y}, exec: [ls],")
    labels, command = bench(text).left_out
    assert labels == "4: topology.defaults.labels: left out: labels say nothing about the network"
    assert command.startswith("4: topology.defaults.exec[0]: left out: no command is run by itself")


@pytest.mark.parametrize("kind", ["bridge", "ovs-bridge"])
def test_bridges_are_switches(bench, kind):
    made = bench(lab(f"{{s: {{kind: {kind}}}}}", rest="")).topology
    assert made.nodes["s"].kind == "switch"


@pytest.mark.parametrize(
    ("link", "mtu"),
    [
        ("{endpoints: ['a:eth1', 's:eth7']}", 9500),
        ("{endpoints: ['a:eth1', 's:eth7'], mtu: 1400}", 1400),
        ("{type: veth, mtu: 1400, endpoints: "
         "[{node: a, interface: eth1}, {node: s, interface: eth7}]}", 1400),
    ],
)  # fmt: skip
def test_links_in_short_and_in_full(bench, link, mtu):
    (found,) = bench(lab(PAIR, f"[{link}]")).topology.links
    assert (str(found.endpoints[0]), str(found.endpoints[1]), found.mtu) == (
        "a:eth1",
        "s:eth7",
        mtu,
    )


@pytest.mark.parametrize(
    "link",
    [
        "{endpoints: ['a:e1', 'b:e1'], ipv4: [10.7.0.1/24, 10.7.0.2/24]}",
        "{type: veth, endpoints: [{node: a, interface: e1, ipv4: 10.7.0.1/24}, "
        "{node: b, interface: e1, ipv4: 10.7.0.2/24}]}",
    ],
)
def test_addresses_of_links(bench, link):
    made = bench(lab(PAIR, f"[{link}]")).topology
    assert made.nodes["a"].interfaces == {"e1": Interface(addresses=("10.7.0.1/24",))}
    assert made.nodes["b"].interfaces == {"e1": Interface(addresses=("10.7.0.2/24",))}


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("ip address add 10.7.0.1/24 dev e1", "10.7.0.1/24"),
        ("ip addr add  10.7.0.1/24  dev e1", "10.7.0.1/24"),
        ("ip -6 a add fd00:7::1/64 dev e1", "fd00:7::1/64"),
    ],
)
def test_a_command_that_gives_an_address_is_an_address(bench, command, address):
    nodes = f"{{a: {{{LINUX}, exec: ['{command}']}}, b: {{{LINUX}}}}}"
    made = bench(lab(nodes, "[{endpoints: ['a:e1', 'b:e1']}]"))
    assert made.topology.nodes["a"].interfaces == {"e1": Interface(addresses=(address,))}
    assert made.left_out == []


@pytest.mark.parametrize(
    "command",
    ["ip address add 10.7.0.1/24 dev e2", "ip address add 10.7.0.1 dev e1", "ip link set e1 up"],
)
def test_other_commands_are_left_out(bench, command):
    nodes = f"{{a: {{{LINUX}, exec: ['{command}']}}, b: {{{LINUX}}}}}"
    made = bench(lab(nodes, "[{endpoints: ['a:e1', 'b:e1']}]"))
    assert made.topology.nodes["a"].interfaces == {}
    assert (
        "3: topology.nodes.a.exec[0]: left out: no command is run by itself; " in made.left_out[-1]
    )


@pytest.mark.parametrize(
    ("nodes", "links", "said"),
    [
        (f"{{a: {{{LINUX}, ports: ['1:1']}}}}", "[]", "3: topology.nodes.a.ports: left out: no"),
        (f"{{a: {{{LINUX}, mgmt-ipv4: 10.0.0.9}}}}", "[]",
         "3: topology.nodes.a.mgmt-ipv4: left out: there is no management network"),
        (f"{{a: {{{LINUX}, entrypoint: x}}}}", "[]", "3: topology.nodes.a.entrypoint: left out: a"),
        (f"{{a: {{{LINUX}, licence: x}}}}", "[]", "3: topology.nodes.a.licence: left out: nothing"),
        (f"{{a: {{{LINUX}, binds: ['__clabDir__/x:/x']}}}}", "[]",
         "3: topology.nodes.a.binds[0]: left out: '__clabDir__/x' is no path; write it out"),
        (f"{{a: {{{LINUX}, env: {{__IMPORT_ENVS: true}}}}}}", "[]",
         "3: topology.nodes.a.env.__IMPORT_ENVS: left out: a word of the other tool"),
        ("{s: {kind: bridge, image: i}}", "[]",
         "3: topology.nodes.s.image: left out: a switch has no settings"),
        (PAIR, "[{endpoints: ['a:e1', 'host:x']}]", "4: topology.links[0]: left out: host is"),
        (PAIR, "[{endpoints: ['macvlan:x', 'a:e1']}]", "4: topology.links[0]: left out: macvlan"),
        (PAIR, "[{type: vxlan, endpoint: {node: a, interface: e1}}]",
         "4: topology.links[0]: left out: a link of the type vxlan leads out of the lab"),
        (PAIR, "[{endpoints: ['a:e1', 'b:e1'], vars: {x: 1}}]",
         "4: topology.links[0].vars: left out: nothing in a topology means it"),
        (PAIR, "[{endpoints: [{node: a, interface: e1, mac: '02:00:00:00:00:01'}, 'b:e1']}]",
         "4: topology.links[0].endpoints[0].mac: left out: nothing in a topology means it"),
        (PAIR, "[{endpoints: ['a:e1', 's:e1'], ipv4: ['', 10.0.0.1/24]}]",
         "4: topology.links[0].ipv4[1]: left out: interfaces of a switch have no addresses"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line(bench, nodes, links, said):
    (line,) = bench(lab(nodes, links)).left_out
    assert line.startswith(said)


def test_what_the_whole_file_says_beyond_is_named_too(bench):
    rest = "  kinds: {ceos: {image: x}}\n  groups: {g: {}}\nmgmt: {network: m}\nprefix: p\n"
    assert bench(lab("{s: {kind: bridge}}", rest=rest)).left_out == [
        "5: topology.kinds.ceos: left out: no node is of this kind",
        "6: topology.groups.g: left out: no node is of this group",
        "7: mgmt: left out: there is no management network",
        "8: prefix: left out: nothing in a topology means it",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topology: {nodes: {s: {kind: bridge}}}", "1: the key 'name' is missing"),
        ("name: t", "1: the key 'topology' is missing"),
        (lab("{a: {kind: nokia_srlinux}}"), "3: topology.nodes.a.kind: 'nokia_srlinux' is a kind"),
        (lab("{a: {kind: host}}"), "3: topology.nodes.a.kind: 'host' is a kind of its own"),
        (lab("{a: {image: i}}"), "3: topology.nodes.a: the key 'kind' is missing"),
        (lab("{a: {kind: linux}}"), "3: topology.nodes.a: the key 'image' is missing"),
        (lab(f"{{a.1: {{{LINUX}}}}}"), "3: topology.nodes.a.1: expected a node name"),
        (lab(f"{{a: {{{LINUX}, group: core}}}}", rest="  groups: {cores: {}}"),
         "3: topology.nodes.a.group: there is no group 'core'; did you mean 'cores'?"),
        (lab(PAIR, "[{endpoints: ['a:e1', 'bb:e1']}]"), "there is no node 'bb'"),
        (lab(PAIR, "[{endpoints: ['a:e1']}]"), "4: topology.links[0]: a link has two endpoints"),
        (lab(PAIR, "[{endpoints: ['a', 'b:e1']}]"), "expected `node:interface`, got 'a'"),
        (lab(PAIR, "[{endpoints: ['a:Gi0/1', 'b:e1']}]"), "expected an interface name"),
        (lab(PAIR, "[{endpoints: [{node: a}, 'b:e1']}]"), "an endpoint has the keys"),
        (lab(PAIR, "[{mtu: 9}]"), "4: topology.links[0]: the key 'endpoints' is missing"),
        (lab(PAIR, "[{type: rope}]"), "4: topology.links[0]: there is no type of links 'rope'"),
        (lab(PAIR, "[{endpoints: ['a:e1', 'b:e1'], mtu: 12}]"), "expected a whole number from 68"),
        (lab(PAIR, "[{endpoints: ['a:e1', 'b:e1'], mtu: -1}]"), "expected a number of bytes"),
        (lab(f"{{a: {{{LINUX}, cmd: [1]}}}}", "7"), "4: topology.links: expected a list"),
        (lab("7"), "3: topology.nodes: expected a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_mean_anything_is_one_error_with_its_line(bench, text, said):
    (problem,) = bench.refused(text)
    assert said in problem


def test_all_faults_are_told_at_once(bench):
    assert len(bench.refused(lab("{a: {kind: x}, b: {kind: y}}", "[{mtu: 1}]"))) == 3


def test_what_all_inherit_is_bounded(bench):
    defaults = (
        "  defaults: {kind: bridge, env: {" + ", ".join(f"A{n}: " for n in range(2000)) + "}}"
    )
    nodes = "{" + ", ".join(f"n{number}: " for number in range(600)) + "}"
    (problem,) = bench.refused(lab(nodes, rest=defaults))
    assert problem == "1: more than 1000000 settings, inherited ones counted"
