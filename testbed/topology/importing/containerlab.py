"""Topologies of containerlab (`*.clab.yml`): Linux containers, bridges, and the links between them.

Of what is said in `defaults`, `kinds`, `groups` and `nodes` the later overrides the earlier, except
for variables, mounts, sysctls and commands, which are put together, as containerlab does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology import names
from testbed.topology.importing import container
from testbed.topology.importing.container import without_empty
from testbed.topology.importing.foreign import (
    NOTHING,
    ForeignFile,
    Imported,
    Part,
    named,
    topology_name,
)
from testbed.topology.values.scalars import LINK_MTU
from testbed.wording import quote

#: What containerlab gives a link that says nothing (links.DefaultLinkMTU).
DEFAULT_MTU: Final = 9500
_SWITCHES: Final = ("bridge", "ovs-bridge")
#: Links, and words in place of a node, that lead out of a lab.
_OUTWARD: Final = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy")
#: So many are read in seconds; those of `defaults` count for each node.
_MOST_SETTINGS: Final = 1_000_000
_TOGETHER: Final = ("env", "binds", "sysctls", "cap-add", "exec")
_ADDRESS: Final = re.compile(r"ip (?:-[46] )?a(?:ddr(?:ess)?)? add (\S+) dev (\S+)\Z")
_WHY: Final = {
    "entrypoint": "a container has its image's entry point; `cmd` is its command",
    "ports": "no way leads from outside into a lab",
    "startup-delay": "the lab waits for health checks, not for a time",
    "stages": "all nodes of a lab begin together",
    "mgmt-ipv4": "there is no management network",
    "mgmt-ipv6": "there is no management network",
    "network-mode": "a node has the links of the lab, and no other network",
    "labels": "labels say nothing about the network",
}


def containerlab(text: str, source: str, folder: Path, beside: Path) -> Imported:
    """The topology that a containerlab file means, as far as one can.

    source: what messages call the file. folder: where the names of files in it start from; beside:
    the folder of the topology that is made. Raises TopologyError with a line for every fault.
    """
    file = ForeignFile(source, folder, beside)
    return _Lab(file, file.read(text)).imported()


class _Lab:
    """One file; nodes and links are collected as they are read."""

    def __init__(self, file: ForeignFile, whole: Part) -> None:
        self._file = file
        self._whole = whole
        top = whole.entries()
        name = top.pop("name", None)
        if name is None:
            whole.fault("the key 'name' is missing")
        self._name = topology_name((name.text() if name else None) or "")
        topology = top.pop("topology", None)
        if topology is None:
            whole.fault("the key 'topology' is missing, which holds nodes and links")
        for key, part in top.items():
            part.leave_out(_WHY["mgmt-ipv4"] if key == "mgmt" else NOTHING)
        parts = topology.entries() if topology else {}
        self._shared = sum(
            parts[key].size for key in ("defaults", "kinds", "groups") if key in parts
        )
        self._defaults, self._kinds, self._groups, self._node_parts = (
            parts.pop(key).entries() if key in parts else {}
            for key in ("defaults", "kinds", "groups", "nodes")
        )
        self._link_parts = parts.pop("links").items() if "links" in parts else []
        for part in parts.values():
            part.leave_out(NOTHING)
        self._used: set[str] = set()
        self._nodes: dict[str, dict[str, Any]] = {}
        self._commands: list[tuple[str, Part]] = []
        self._ends: set[tuple[str, str]] = set()

    def imported(self) -> Imported:
        """The topology of all that is in the file."""
        if self._shared * len(self._node_parts) > _MOST_SETTINGS:
            self._whole.fault(f"more than {_MOST_SETTINGS} settings, inherited ones counted")
            self._node_parts = {}
        for name, part in self._node_parts.items():
            self._nodes[named(part, name)] = self._node(name, part)
        links = [link for part in self._link_parts if (link := self._link(part)) is not None]
        for name, part in self._commands:
            self._command(name, part)
        for key, parts in (("kind", self._kinds), ("group", self._groups)):
            for name, part in parts.items():
                if f"{key} {name}" not in self._used:
                    part.leave_out(f"no node is of this {key}")
        nodes = {name: without_empty(node) for name, node in self._nodes.items()}
        topology = {"name": self._name, "nodes": nodes, "links": links}
        return self._file.imported(without_empty(topology))

    def _node(self, name: str, part: Part) -> dict[str, Any]:
        own = part.entries()
        group = own["group"].text() if "group" in own else None
        grouped = self._of("group", group, self._groups, own.get("group"))
        kind_part = own.get("kind") or grouped.get("kind") or self._defaults.get("kind")
        if kind_part is None:
            part.fault("the key 'kind' is missing, here, in its group and in `defaults`")
            return {}
        kind = kind_part.text()
        if kind in _SWITCHES:
            for key, entry in own.items():
                if key not in ("kind", "group"):
                    entry.leave_out("a switch has no settings")
            return {"kind": "switch"}
        if kind != "linux":
            if kind is not None:
                why = "only linux, bridge and ovs-bridge mean the same in a topology"
                kind_part.fault(f"{quote(kind)} is a kind of its own; {why}")
            return {}
        of_kind = self._of("kind", kind, self._kinds, None)
        return self._container(name, part, [self._defaults, of_kind, grouped, own])

    def _of(
        self, what: str, name: str | None, table: dict[str, Part], where: Part | None
    ) -> dict[str, Part]:
        """What a table of `kinds` or `groups` has under a name."""
        if name is None:
            return {}
        self._used.add(f"{what} {name}")
        if name in table:
            return table[name].entries()
        if where is not None:
            where.unknown(what, name, table)
        return {}

    def _container(self, name: str, part: Part, levels: list[dict[str, Part]]) -> dict[str, Any]:
        """A Linux container by what all levels say, the last being its own."""
        found: dict[str, Part] = {key: one for level in levels for key, one in level.items()}
        every = {key: [level[key] for level in levels if key in level] for key in _TOGETHER}
        self._commands += [(name, item) for one in every["exec"] for item in one.items()]
        image = found.pop("image", None)
        if image is None:
            part.fault("the key 'image' is missing, here, in its group, kind and in `defaults`")
        node: dict[str, Any] = {
            "kind": "container",
            "image": image.text() if image else None,
            "command": found.pop("cmd").words() if "cmd" in found else None,
            "environment": container.environment(every["env"]),
            "mounts": _mounts(item for one in every["binds"] for item in one.items()),
            "capabilities": list(
                dict.fromkeys(
                    cap for one in every["cap-add"] for cap in container.capabilities(one)
                )
            ),
            "cpus": container.processors(found.pop("cpu")) if "cpu" in found else None,
            "memory": container.memory(found.pop("memory")) if "memory" in found else None,
            "health": container.health(found.pop("healthcheck"))
            if "healthcheck" in found
            else None,
            "sysctls": container.sysctls(every["sysctls"]),
        }
        for key, one in found.items():
            if key not in (*_TOGETHER, "kind", "group"):
                one.leave_out(_WHY.get(key, NOTHING))
        return node

    def _command(self, name: str, part: Part) -> None:
        """A command of `exec`: an address is that of an interface, all else is left out."""
        text = part.text()
        match = _ADDRESS.match(" ".join((text or "").split()))
        if (
            match
            and (name, match[2]) in self._ends
            and self._address(part, name, match[2], match[1])
        ):
            return
        if text is not None:
            part.leave_out("no command is run by itself; `lab[NODE].run([...])` does it")

    def _address(self, part: Part, node: str, interface: str, address: str) -> bool:
        """Give an interface an address; whether that was one."""
        try:
            parsed = str(names.parse_host_address(address))
        except InvalidValue as error:
            part.note(str(error))
            return False
        interfaces = self._nodes[node].setdefault("interfaces", {})
        addresses = interfaces.setdefault(interface, {"addresses": []})["addresses"]
        if parsed not in addresses:
            addresses.append(parsed)
        return True

    def _link(self, part: Part) -> dict[str, Any] | None:
        keys = part.entries()
        kind = keys.pop("type").text() if "type" in keys else "veth"
        if kind in _OUTWARD:
            part.leave_out(f"a link of the type {kind} leads out of the lab")
            return None
        if kind != "veth":
            if kind is not None:
                part.fault(f"there is no type of links {quote(kind)}")
            return None
        if "endpoints" not in keys:
            part.fault("the key 'endpoints' is missing in this link")
            return None
        items = keys.pop("endpoints").items()
        ends = [self._end(item) for item in items]
        if len(ends) != 2:
            part.fault(f"a link has two endpoints, not {len(ends)}")
            return None
        outward = [end for end in ends if end and end[0] in _OUTWARD and end[0] not in self._nodes]
        if outward:
            part.leave_out(f"{outward[0][0]} is outside of the lab")
            return None
        for item, end in zip(items, ends, strict=True):
            if end is not None and end[0] not in self._nodes:
                item.unknown("node", end[0], self._nodes)
        good = [end for end in ends if end is not None and end[0] in self._nodes]
        mtu = keys.pop("mtu").parsed(_mtu) if "mtu" in keys else DEFAULT_MTU
        for family in ("ipv4", "ipv6"):
            if family in keys:
                self._addresses(keys.pop(family), ends)
        for entry in keys.values():
            entry.leave_out(NOTHING)
        self._ends.update(good)
        return {"endpoints": [":".join(end) for end in good], "mtu": mtu}

    def _end(self, part: Part) -> tuple[str, str] | None:
        """Node and interface of `node:interface`, or of a mapping with these keys."""
        if not part.is_mapping:
            text = part.text()
            if text is None:
                return None
            node, _, interface = text.partition(":")
            if node in _OUTWARD and node not in self._nodes:
                return node, interface
            if not interface:
                part.fault(f"expected `node:interface`, got {quote(text)}")
                return None
            return (node, interface) if self._is_interface(part, interface) else None
        keys = part.entries()
        node_part, interface_part = keys.pop("node", None), keys.pop("interface", None)
        if node_part is None or interface_part is None:
            part.fault("an endpoint has the keys `node` and `interface`")
            return None
        found = node_part.text(), interface_part.text()
        if found[0] is None or found[1] is None or not self._is_interface(part, found[1]):
            return None
        for key, entry in keys.items():
            if key in ("ipv4", "ipv6") and found[0] in self._nodes:
                self._given(entry, (found[0], found[1]))
            else:
                entry.leave_out(NOTHING)
        return found[0], found[1]

    def _is_interface(self, part: Part, name: str) -> bool:
        try:
            names.parse_interface_name(name)
        except InvalidValue as error:
            part.fault(str(error))
            return False
        return True

    def _addresses(self, part: Part, ends: list[tuple[str, str] | None]) -> None:
        """One address for each end."""
        for item, end in zip(part.items(), ends, strict=False):
            if end is not None and end[0] in self._nodes:
                self._given(item, end)

    def _given(self, part: Part, end: tuple[str, str]) -> None:
        """An address that the file gives an end; that of a switch has no meaning."""
        text = part.text()
        if not text:
            return
        if self._nodes[end[0]].get("kind") == "switch":
            part.leave_out("interfaces of a switch have no addresses")
        elif not self._address(part, *end, text):
            part.leave_out("no address of an interface")


def _mounts(parts: Iterator[Part]) -> list[dict[str, Any]]:
    """The mounts by their targets, of which the last holds."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        one = container.mount(part, volumes=False)
        if one is not None:
            found[one["target"]] = one
    return list(found.values())


def _mtu(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidValue(f"expected a number of bytes, got {quote(text)}")
    return int(LINK_MTU.parse(int(text[:9])))
