"""The building of a lab, step by step, from its plan."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from testbed.emulator.builder import EmulatorBuilder, LinkEndInNode, Workshop
from testbed.emulator.choice import emulator_builder
from testbed.emulator.emulator import Emulator
from testbed.emulator.fate_file import FateFile
from testbed.errors import CaptureError, LabError, blame
from testbed.kernel.netlink.socket import Netlink
from testbed.kernel.placement import Placement, placements
from testbed.kernel.processes.helper import Helper
from testbed.kernel.processes.process import find_program
from testbed.lab import build, ruleset
from testbed.lab.capture import Capture, bytes_to_keep
from testbed.lab.congestion import refuse_unknown_congestion_controls
from testbed.lab.kinds import builder_of
from testbed.lab.link import LabLink, check_impairments, link_name
from testbed.lab.node import LabNode
from testbed.lab.node_builder import (
    IndexSource,
    NamespaceDefaults,
    NamespaceSource,
    NodeBuilder,
)
from testbed.lab.runtime import Runtime
from testbed.topology.planning.plan_model import Plan, PlannedLink

_VETH_BATCH = 64


class Construction:
    """Builds a lab in the namespace thread, where nothing interrupts it.

    What it makes is given back by `runtime`, whether or not all goes well.
    """

    def __init__(self, plan: Plan, captures: Path | None, runtime: Runtime) -> None:
        self.plan = plan
        self.nodes: dict[str, LabNode] = {}
        self.links: list[LabLink] = []
        self.captures: dict[str, Capture] = {}
        self.seconds: dict[str, float] = {}
        self.steering: dict[str, str] = {}
        self._directory = captures
        self._runtime = runtime
        self.emulation: EmulatorBuilder | None = None
        self._helpers: list[Helper] = []
        self._node_helpers: dict[str, Helper] = {}
        self._placements: dict[str, Placement | None] = {}
        self._builders: dict[str, NodeBuilder] = {}
        self._sources: dict[str, NamespaceSource] = {}

    def build(self) -> None:
        """Make everything and read it back.

        Raises a `TestbedError` for the first thing that cannot be had.
        """
        began = time.monotonic()
        if self.plan.captures:
            find_program("tcpdump", "tcpdump")
        if any(node.kernel is not None for node in self.plan.topology.nodes.values()):
            find_program(*ruleset.PROGRAM)
        _allow_descriptors(_descriptors(self.plan))
        self._open_sources()
        self._hidden = self._runtime.new_namespace()
        self._indices = IndexSource(self._hidden)
        self._hidden.call(refuse_unknown_congestion_controls, self.plan)
        # Helper processes come up while the network is built.
        self._start_helpers()
        steps = {
            "namespaces": self._make_nodes,
            "links": self._join_nodes,
            "settings": self._configure,
            "read back": self._verify,
            "captures": self._start_captures,
        }
        if self._helpers:
            steps["readiness to end"] = self._let_go
        steps["readiness of nodes"] = self._await_ready
        last = began
        for name, step in steps.items():
            step()
            now = time.monotonic()
            self.seconds[name], last = now - last, now
        self.seconds["total"] = last - began

    def _open_sources(self) -> None:
        """Begin what the nodes of a kind share."""
        for kind in dict.fromkeys(node.kind for node in self.plan.nodes.values()):
            nodes = [node for node in self.plan.nodes.values() if node.kind == kind]
            self._sources[kind] = builder_of(kind).namespaces(nodes, self.plan, self._runtime)

    def _start_helpers(self) -> None:
        emulated = sum(link.emulated for link in self.plan.links)
        if emulated:
            workshop = Workshop(
                self._runtime.new_namespace,
                self._start_helper,
                self._indices.take,
                self._runtime.stack,
                self._directory,
            )
            self.emulation = emulator_builder(self.plan.topology, self._hidden, workshop)
            self._helpers += self.emulation.start(emulated)
        for node in self.plan.nodes.values():
            module = builder_of(node.kind).helper_module
            if module is not None:
                helper = self._start_helper(module, f"the {node.kind} '{node.name}'")
                self._node_helpers[node.name] = helper
        self._helpers += self._node_helpers.values()
        found = placements(os.sched_getaffinity(0), len(self._helpers), first=os.getpid())
        names = [helper.name for helper in self._helpers]
        self._placements = dict(zip(names, found, strict=True))
        if self.emulation is not None:
            self.emulation.place(self._placements)

    def _start_helper(self, module: str, name: str) -> Helper:
        self._runtime.step()
        return self._runtime.start_helper(self._hidden, module, name)

    def _make_nodes(self) -> None:
        defaults = NamespaceDefaults(self._hidden)
        for planned in self.plan.nodes.values():
            builder = builder_of(planned.kind)(
                planned, self.plan, self._sources[planned.kind], defaults, self._indices
            )
            self._runtime.stack.callback(builder.close)
            build.prepare(builder)
            self._builders[planned.name] = builder
            self.nodes[planned.name] = builder.make_node(self._runtime)

    def _join_nodes(self) -> None:
        plain = [link for link in self.plan.links if not link.emulated]
        with self._hidden.call(Netlink) as netlink:
            for start in range(0, len(plain), _VETH_BATCH):
                self._runtime.step()
                batch = plain[start : start + _VETH_BATCH]
                netlink.execute([build.veth_request(link, self._builders) for link in batch])
        for link in self.plan.links:
            if link.emulated:
                self._runtime.step()
                self.links.append(self._emulate(link))
            else:
                self.links.append(self._lab_link(link, None))
        if self.emulation is not None:
            self.emulation.links_added()
            self.steering |= self.emulation.steering

    def _emulate(self, link: PlannedLink) -> LabLink:
        assert self.emulation is not None
        name = link_name(link)
        cables = build.cable_ends(link, self._builders, has_offloads=self.emulation.has_offloads)
        nodes = (self._builders[end.node] for end in (link.a, link.b))
        a, b = (
            LinkEndInNode(node.namespace, node.netlink, cable)
            for node, cable in zip(nodes, cables, strict=True)
        )
        with blame(f"link {name}"):
            made = self.emulation.add_link(name, link, a, b)
        forward, reverse = made.emulator.read_back(name)
        check_impairments(name, "forward", link.forward, forward)
        check_impairments(name, "reverse", link.reverse, reverse)
        return self._lab_link(link, made.emulator, made.fates)

    def _lab_link(
        self, link: PlannedLink, emulator: Emulator | None, fates: FateFile | None = None
    ) -> LabLink:
        a, b = (self._builders[end.node].namespace for end in (link.a, link.b))
        return LabLink(link, emulator, (a, b), self.plan.all_addresses, self._runtime.check, fates)

    def _configure(self) -> None:
        for builder in self._builders.values():
            self._runtime.step()
            helper = self._node_helpers.get(builder.name)
            if helper is not None:
                node, placement = self.nodes[builder.name], self._placements[helper.name]
                builder.start_helper(node, helper, placement, self._directory)
                self.steering[helper.name] = builder.steering
            build.configure(builder)
            kernel = self.plan.topology.nodes[builder.name].kernel
            if kernel is not None:
                ruleset.load(self._runtime.group, builder, kernel.nftables)

    def _verify(self) -> None:
        if self.emulation is not None:
            self.emulation.await_carriers()
        for builder in self._builders.values():
            self._runtime.step()
            build.verify(builder)
        for builder in self._builders.values():
            builder.close()

    def _start_captures(self) -> None:
        if self._directory is not None and self.plan.captures:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CaptureError(
                    f"The directory {self._directory} for captures cannot be made: "
                    f"{os.strerror(error.errno or 0)}."
                ) from error
        for end in self.plan.captures:
            self._runtime.step()
            capture = Capture(
                end.node,
                end.interface,
                bytes_to_keep(self.plan, end),
                directory=self._directory,
                before_stop=self._runtime.expect_end,
            )
            self._runtime.stack.callback(capture.close)
            self.captures[str(end)] = capture
            process = capture.start(self._runtime.group, self._builders[end.node].namespace)
            self._runtime.depend_on(process, f"the capture of {end}", by_itself=False)
        for capture in self.captures.values():
            capture.await_ready()

    def _let_go(self) -> None:
        # Connections end with the helper processes that carry them.
        self._runtime.group.let_go_of([builder.namespace for builder in self._builders.values()])

    def _await_ready(self) -> None:
        for builder in self._builders.values():
            builder.await_ready(self._runtime)


def _descriptors(plan: Plan) -> int:
    """How many files this process has open, at most, while it builds a plan; with some to spare."""
    already = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return already + 4 * len(plan.nodes) + 4 * len(plan.links) + 8 * len(plan.captures) + 256


def _allow_descriptors(wanted: int) -> None:
    """Raise this process's own soft limit of open files, as far as its hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise LabError(
            f"This topology needs about {wanted} open files and the limit is {hard}. "
            "Raise it: `ulimit -Hn` shows it, /etc/security/limits.conf sets it."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
