"""From what a YAML file says to a topology: groups expanded, interfaces named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from testbed.errors import InvalidValue
from testbed.topology import kinds
from testbed.topology.checks.topology import MAX_LINKS, MAX_NODES
from testbed.topology.model import (
    CapturePoint,
    Endpoint,
    FunctionSpec,
    Impairments,
    KernelFunctions,
    Link,
    Node,
    Route,
    RouteMetrics,
    Ruleset,
    ScheduledChange,
    Topology,
)
from testbed.topology.problems import Path, Problem
from testbed.topology.values.files import read_bounded
from testbed.topology.yaml.impairments import TraceFolder, fields_of
from testbed.topology.yaml.options import FunctionOptions, read_options
from testbed.topology.yaml.reading import INVALID, without_invalid
from testbed.wording import quote

_MAX_RULESET = 1 << 20
_METRICS = tuple(field.name for field in msgspec.structs.fields(RouteMetrics))
_OPPOSITES = (("cut", "restore"), ("unplug", "plug"))
_TOP = ("description", "scenario", "seed", "family", "prefer")
_EMULATOR = {
    "kind": "emulator",
    "processes": "emulator_processes",
    "max_lateness": "max_lateness",
}


class Expansion:
    """Makes a topology of the values read from YAML and remembers where each part came from.

    complete: False if links had to be left out because they could not be read.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        functions: FunctionOptions | None,
        traces: TraceFolder,
        problems: list[Problem],
    ) -> None:
        self._values = values
        self._traces = traces
        self._functions = functions
        self._problems = problems
        nodes = values.get("nodes", {})
        self._bodies = {name: {} if body is INVALID else body for name, body in nodes.items()}
        self._links = self._readable_links()
        self._node_origin: dict[str, str] = {}
        self._route_origin: dict[str, list[int]] = {}
        self._link_origin: list[int] = []
        self._capture_origin: list[int] = []
        self.complete = len(self._links) == len(values.get("links", []))

    def topology(self) -> Topology | None:
        """The topology as far as it could be read; None if it has no nodes or far too many."""
        if not self._bodies or not self._few_enough():
            return None
        nodes = self._make_nodes()
        links = self._make_links(nodes)
        top = {key: self._values[key] for key in _TOP if key in self._values}
        emulator = self._values.get("emulator", {})
        top |= {field: emulator[key] for key, field in _EMULATOR.items() if key in emulator}
        return Topology(
            name=self._values.get("name", "unnamed"),
            nodes=nodes,
            links=tuple(links),
            captures=tuple(self._captures(links)),
            **top,
        )

    def path_in_yaml(self, path: Path) -> tuple[Path, bool]:
        """A path in the topology as one in the YAML, and whether it stands for a whole group."""
        match path:
            case ("nodes", str(name), "routes", int(index), *rest):
                routes = self._route_origin[name]
                origin = self._node_origin[name]
                return ("nodes", origin, "routes", routes[index], *rest), origin != name
            case ("nodes", str(name), *rest):
                origin = self._node_origin.get(name, name)
                return ("nodes", origin, *rest), origin != name
            case ("links", int(index), *rest):
                number = self._link_origin[index]
                ends = self._links[number]["endpoints"]
                return ("links", number, *rest), any(self._count(name) > 1 for name, _ in ends)
            case ("captures", int(index), *rest):
                return ("captures", self._capture_origin[index], *rest), False
        return path, False

    def _note(self, path: Path, text: str) -> None:
        self._problems.append(Problem(path, text))

    def _readable_links(self) -> dict[int, dict[str, Any]]:
        links = self._values.get("links", [])
        return {
            index: link
            for index, link in enumerate(links)
            if link is not INVALID and INVALID not in link.get("endpoints", [INVALID])
        }

    def _count(self, name: str) -> int:
        count: int = self._bodies.get(name, {}).get("count", 1)
        return count

    def _members(self, name: str) -> list[str]:
        count = self._bodies.get(name, {}).get("count")
        return [name] if count is None else [f"{name}{number}" for number in range(1, count + 1)]

    def _few_enough(self) -> bool:
        nodes = sum(map(self._count, self._bodies))
        links = sum(
            max(self._count(name) for name, _ in link["endpoints"]) for link in self._links.values()
        )
        for key, count, most in (("nodes", nodes, MAX_NODES), ("links", links, MAX_LINKS)):
            if count > most:
                self._note((key,), f"{count} {key} with all groups; at most {most} are built")
        return nodes <= MAX_NODES and links <= MAX_LINKS

    def _make_nodes(self) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for origin, body in self._bodies.items():
            settings = self._settings(origin, body)
            routes = list(self._routes(body))
            for name in self._members(origin):
                if name in nodes:
                    first = self._node_origin[name]
                    text = (
                        f"the name {quote(name)} is taken by a member of the group {quote(first)}"
                    )
                    self._note(("nodes", origin), text)
                    continue
                self._node_origin[name] = origin
                self._route_origin[name] = [index for index, _ in routes]
                nodes[name] = Node(
                    name=name, routes=tuple(route for _, route in routes), **settings
                )
        return nodes

    def _settings(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        settings = {
            key: body[key] for key in ("kind", "congestion_control", "outside") if key in body
        }
        for key in ("sysctls", "interfaces"):
            given = body.get(key, {})
            settings[key] = {n: value for n, value in given.items() if value is not INVALID}
        if "nftables" in body.get("kernel", {}):
            settings["kernel"] = self._read_ruleset(name, body["kernel"]["nftables"])
        own = {key.name for key in kinds.keys_of_kinds()}
        kind = kinds.find(body.get("kind", "host")) or kinds.NodeKind()
        given = {key: without_invalid(value) for key, value in body.items() if key in own}
        settings["settings"] = kind.with_files_of(given, self._traces.folder)
        settings["functions"] = tuple(self._make_functions(name, body.get("functions", [])))
        return settings

    def _read_ruleset(self, node: str, file: str) -> KernelFunctions | None:
        path = self._traces.folder / file
        try:
            data = read_bounded(path, _MAX_RULESET, f"a ruleset has at most {_MAX_RULESET} bytes")
            return KernelFunctions(nftables=Ruleset(str(path), data.decode()))
        except UnicodeDecodeError:
            self._note(("nodes", node, "kernel", "nftables"), f"{path} is not UTF-8 text")
        except InvalidValue as error:
            self._note(("nodes", node, "kernel", "nftables"), str(error))
        return None

    def _make_functions(self, node: str, given: list[Any]) -> Iterator[FunctionSpec]:
        for index, item in enumerate(given):
            if item is INVALID:
                continue
            name, options = item
            if self._functions is not None:
                path = ("nodes", node, "functions", index)
                options, problems = read_options(name, options, self._functions, path)
                self._problems.extend(problems)
            yield FunctionSpec(name, options)

    def _routes(self, body: Mapping[str, Any]) -> Iterator[tuple[int, Route]]:
        for index, given in enumerate(body.get("routes", [])):
            if given is INVALID or "to" not in given:
                continue
            metrics = RouteMetrics(**{key: given[key] for key in _METRICS if key in given})
            for to in self._members(given["to"]):
                yield index, Route(to=to, via=given.get("via"), metrics=metrics)

    def _make_links(self, nodes: Mapping[str, Node]) -> list[Link]:
        pairs: list[tuple[int, list[tuple[str, str]]]] = []
        for index, link in self._links.items():
            pairs += ((index, pair) for pair in self._pairs(index, link["endpoints"]))
        used: dict[str, set[str]] = {}
        for _, pair in pairs:
            for node, interface in pair:
                used.setdefault(node, set()).add(interface)
        following: dict[str, int] = {}
        settings = {index: self._link_settings(index) for index in self._links}
        links = []
        for index, pair in pairs:
            a, b = (
                Endpoint(node, interface or _free_name(node, nodes, used, following))
                for node, interface in pair
            )
            links.append(Link(endpoints=(a, b), **settings[index]))
            self._link_origin.append(index)
        return links

    def _link_settings(self, index: int) -> dict[str, Any]:
        """The fields of a link beside its endpoints."""
        given = self._links[index]
        path: Path = ("links", index)
        plain = ("mtu", "offload", "emulated", "log", "family", "private")
        common = self._impairments(path, given)
        return {
            **{key: given[key] for key in plain if key in given},
            **{
                direction: Impairments(
                    **common | self._impairments((*path, direction), given.get(direction, {}))
                )
                for direction in ("forward", "reverse")
            },
            "subnets": tuple(one for one in given.get("subnet", []) if one is not INVALID),
            "schedule": tuple(
                self._change((*path, "schedule", position), change)
                for position, change in enumerate(given.get("schedule", []))
                if change is not INVALID and "at" in change
            ),
        }

    def _impairments(self, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        faults: list[Problem] = []
        fields = fields_of(given, self._traces, faults)
        for fault in faults:
            self._note((*path, *fault.path), fault.text)
        return fields

    def _is_faulty(self, path: Path) -> bool:
        return any(problem.path[: len(path)] == path for problem in self._problems)

    def _change(self, path: Path, given: Mapping[str, Any]) -> ScheduledChange:
        changes = self._impairments(path, given)
        both = [pair for pair in _OPPOSITES if all(map(given.get, pair))]
        for one, other in both:
            self._note(path, f"both `{one}` and `{other}`; one of them")
        if "direction" in given and (given.get("unplug") or given.get("plug")):
            self._note((*path, "direction"), "a cable is pulled out in both directions")
        if not both and not given.keys() - {"at", "direction"} and not self._is_faulty(path):
            self._note(path, "nothing is changed; say `cut: true`, `restore: true`, `rate: ...`")
        return ScheduledChange(
            at=given["at"],
            direction=given.get("direction"),
            changes=changes,
            cut=_engaged(given, "cut", "restore"),
            plugged=_engaged(given, "plug", "unplug"),
        )

    def _pairs(
        self, index: int, endpoints: list[tuple[str, str]]
    ) -> Iterator[list[tuple[str, str]]]:
        """The endpoints of each link that one entry stands for."""
        counts = [self._count(name) for name, _ in endpoints]
        path: Path = ("links", index, "endpoints")
        if min(counts) > 1:
            text = "both ends are groups; a link can have a group at one end, e.g. [hosts, switch]"
            self._note(path, text)
            self.complete = False
            return
        single = list(endpoints)
        if max(counts) > 1:
            position = counts.index(1)
            node, interface = endpoints[position]
            if interface:
                group = endpoints[1 - position][0]
                text = (
                    f"there is one link for each member of {quote(group)}, so the other end "
                    f"cannot be the one interface {node}:{interface}; write {quote(node)}"
                )
                self._note((*path, position), text)
                single[position] = (node, "")
        firsts, seconds = (
            [(member, interface) for member in self._members(node)] for node, interface in single
        )
        for number in range(max(counts)):
            yield [firsts[number % len(firsts)], seconds[number % len(seconds)]]

    def _captures(self, links: list[Link]) -> Iterator[Endpoint]:
        own: dict[str, list[str]] = {}
        for link in links:
            for end in link.endpoints:
                own.setdefault(end.node, []).append(end.interface)
        total = 0
        for index, item in enumerate(self._values.get("captures", [])):
            if item is INVALID:
                continue
            end, snap = item.get("interface", INVALID), item.get("snap")
            if INVALID in (end, snap):
                continue
            node, interface = end
            for member in self._members(node):
                names = [interface] if interface else own.get(member, [""])
                total += len(names)
                if total > 2 * MAX_LINKS:
                    self._note(("captures", index), "more captures than there can be interfaces")
                    return
                for name in names:
                    self._capture_origin.append(index)
                    yield (
                        Endpoint(member, name) if snap is None else CapturePoint(member, name, snap)
                    )


def _engaged(given: Mapping[str, Any], yes: str, no: str) -> bool | None:
    return True if given.get(yes) else False if given.get(no) else None


def _free_name(
    node: str,
    nodes: Mapping[str, Node],
    used: Mapping[str, set[str]],
    following: dict[str, int],
) -> str:
    """The next of eth0, eth1, ... that the node has not yet."""
    kind = kinds.find(nodes[node].kind) if node in nodes else None
    prefix, first = (kind or kinds.NodeKind).interface_names
    number = following.get(node, first)
    while f"{prefix}{number}" in used[node]:
        number += 1
    following[node] = number + 1
    return f"{prefix}{number}"
