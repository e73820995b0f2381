"""The lab: a topology that is running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from testbed.emulator.userspace import UserspaceEmulator
from testbed.errors import LabError, ProcessDied, TestbedError
from testbed.kernel.namespace import Namespace, NamespaceThread
from testbed.kernel.netlink import Netlink
from testbed.kernel.process import Process, ProcessGroup, find_program
from testbed.lab import build
from testbed.lab.capture import Capture
from testbed.lab.helper import Helper, start_helper
from testbed.lab.link import Link, check_impairments, link_name
from testbed.lab.middlebox_node import MiddleboxSite
from testbed.lab.node import Node
from testbed.lab.watch import Watch
from testbed.middlebox.registry import function_options
from testbed.topology.load import load
from testbed.topology.model import Topology
from testbed.topology.plan import plan
from testbed.topology.plan_model import Plan, PlannedLink

_VETH_BATCH = 64
_FDS_PER_NODE = 4


class Lab:
    """A running topology, for use in a `with` or `async with` block.

    topology: a `Topology`, a `Plan`, or the path of a YAML file. captures: the directory for
    pcap files (made when missing); without one, captures are files without names that vanish
    with the lab. Everything a lab makes belongs to this process and ends with the block, or with
    the process, however it dies.

    Raises a `TestbedError` that says what to do when the topology cannot be built here; nothing
    is left behind then. When a process that the lab depends on dies, sockets of the lab are shut
    down, so that nothing waits for ever, and leaving the block raises `ProcessDied`.
    """

    def __init__(
        self,
        topology: Topology | Plan | str | os.PathLike[str],
        *,
        captures: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(topology, Plan):
            self.plan = topology
        elif isinstance(topology, Topology):
            self.plan = plan(topology)
        else:
            self.plan = plan(load(topology, functions=function_options()))
        self.build_seconds: dict[str, float] = {}
        self._capture_directory = None if captures is None else Path(captures)
        self._stack = contextlib.ExitStack()
        self._nodes: dict[str, Node] = {}
        self._links: list[Link] = []
        self._captures: dict[str, Capture] = {}
        self._failure: TestbedError | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._state = "new"

    def __repr__(self) -> str:
        return f"<Lab {self.topology.name} {self._state}: {', '.join(self.plan.nodes)}>"

    @property
    def topology(self) -> Topology:
        return self.plan.topology

    @property
    def nodes(self) -> Mapping[str, Node]:
        return MappingProxyType(self._nodes)

    @property
    def captures(self) -> Mapping[str, Capture]:
        """The captures by `node:interface`."""
        return MappingProxyType(self._captures)

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(self._links)

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            known = ", ".join(self._nodes) or "none, for it is not running"
            raise LabError(f"The lab has no node '{name}'; it has {known}.") from None

    def link(self, a: str, b: str) -> Link:
        """The link between two nodes, in either order. Raises `LabError` unless there is one."""
        found = [link for link in self._links if set(link.nodes) == {a, b}]
        if len(found) == 1:
            return found[0]
        names = ", ".join(link.name for link in found or self._links) or "no links"
        count = "no link" if not found else f"{len(found)} links"
        raise LabError(
            f"The lab has {count} between '{a}' and '{b}': {names}. `lab.links` has all of them."
        )

    def check(self) -> None:
        """Raise what has gone wrong in the background, if anything has."""
        if self._failure is not None:
            raise self._failure
        if self._state != "running":
            raise LabError(f"The lab '{self.topology.name}' is {self._state}, not running.")

    # -- life -----------------------------------------------------------------------------

    def __enter__(self) -> Lab:
        if self._state != "new":
            raise LabError("A lab runs once; make another one.")
        try:
            self._build()
        except BaseException:
            self._state = "closed"
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and self._failure is None:
                for capture in self._captures.values():
                    capture.stop()
            self._watch.close()
        finally:
            self._state = "closed"
            self._stack.close()
        if self._failure is not None and error is not self._failure:
            raise self._failure from error

    async def __aenter__(self) -> Lab:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, traceback)

    def _build(self) -> None:
        started = time.monotonic()
        if self.plan.captures:
            find_program("tcpdump")
        _allow_descriptors(len(self.plan.nodes) * _FDS_PER_NODE + 256)
        self._thread = NamespaceThread()
        self._stack.callback(self._thread.close)
        self._group = ProcessGroup(self._thread)
        self._hidden = self._new_namespace()
        self._stack.callback(self._close_sockets)
        self._stack.callback(self._group.close)
        self._watch = Watch()
        self._stack.callback(self._watch.close)
        # Helper processes come up while the network is built.
        helpers = self._start_helpers()
        sites = self._make_sites()
        self._join(sites, helpers)
        for site in sites.values():
            build.verify(site)
        self._finish(sites)
        self._start_captures(sites)
        self._state = "running"
        self.build_seconds["total"] = time.monotonic() - started

    def _new_namespace(self) -> Namespace:
        namespace = self._thread.create_namespace()
        self._stack.callback(namespace.close)
        return namespace

    def _start_helpers(self) -> dict[str, Helper]:
        helpers = {}
        if any(link.emulated for link in self.plan.links):
            helpers["emulator"] = self._start_helper("testbed.emulator", "the link emulator")
        for node in self.plan.nodes.values():
            if node.kind == "middlebox":
                name = f"the middlebox '{node.name}'"
                helpers[node.name] = self._start_helper("testbed.middlebox", name)
        return helpers

    def _start_helper(self, module: str, name: str) -> Helper:
        helper = start_helper(self._group, self._hidden, module, name)
        self._stack.callback(helper.channel.close)
        self._depend_on(helper.process, name)
        return helper

    def _depend_on(self, process: Process, name: str) -> None:
        def on_end() -> None:
            status = process.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"ended, status {status}"
            said = process.stderr_text().strip()
            self._fail(
                ProcessDied(
                    f"{name} {how}, so the lab '{self.topology.name}' is no longer what its "
                    f"topology says{f'. It said: {said}' if said else '.'}"
                )
            )

        self._watch.add(process, on_end)

    def _fail(self, failure: TestbedError) -> None:
        with self._lock:
            self._failure = self._failure or failure
            waiting = list(self._sockets)
        for sock in waiting:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _track(self, made: socket.socket) -> None:
        with self._lock:
            self._sockets.add(made)

    def _close_sockets(self) -> None:
        with self._lock:
            for made in list(self._sockets):
                made.close()

    # -- building --------------------------------------------------------------------------

    def _make_sites(self) -> dict[str, build.Site]:
        sites = {}
        for planned in self.plan.nodes.values():
            site = build.Site(planned, self._new_namespace())
            self._stack.callback(build.close_taps, site)
            build.prepare(site)
            sites[planned.name] = site
            self._nodes[planned.name] = Node(
                planned, self.plan, site.namespace, self._group, self.check, self._track
            )
        return sites

    def _join(self, sites: dict[str, build.Site], helpers: dict[str, Helper]) -> None:
        indices = build.IndexSource()
        requests = []
        for link in self.plan.links:
            if link.emulated:
                build.open_taps(link, sites, indices)
            else:
                requests.append(build.veth_request(link, sites, indices))
        with self._hidden.call(Netlink) as netlink:
            for start in range(0, len(requests), _VETH_BATCH):
                netlink.execute(requests[start : start + _VETH_BATCH])
        emulator = self._start_emulation(sites, helpers)
        self._links = [
            Link(link, emulator if link.emulated else None, self.check) for link in self.plan.links
        ]
        for site in sites.values():
            extra = []
            if site.planned.kind == "middlebox":
                box = MiddleboxSite(site, indices)
                self._stack.callback(box.close)
                extra = box.requests()
                functions = self.topology.nodes[site.name].functions
                self._nodes[site.name].middlebox = box.start_engine(helpers[site.name], functions)
            build.configure(site, extra)

    def _start_emulation(
        self, sites: dict[str, build.Site], helpers: dict[str, Helper]
    ) -> UserspaceEmulator | None:
        if "emulator" not in helpers:
            return None
        emulator = UserspaceEmulator(helpers["emulator"].channel)
        for link in self.plan.links:
            if link.emulated:
                self._emulate(emulator, link, sites)
        return emulator

    def _emulate(
        self, emulator: UserspaceEmulator, link: PlannedLink, sites: dict[str, build.Site]
    ) -> None:
        name = link_name(link)
        fd_a, fd_b = (sites[end.node].tap_fds[end.name] for end in (link.a, link.b))
        emulator.add_link(name, fd_a, fd_b, link.forward, link.reverse, self.topology.seed)
        forward, reverse = emulator.read_back(name)
        check_impairments(name, "forward", link.forward, forward)
        check_impairments(name, "reverse", link.reverse, reverse)

    def _finish(self, sites: dict[str, build.Site]) -> None:
        for site in sites.values():
            build.close_taps(site)

    def _start_captures(self, sites: dict[str, build.Site]) -> None:
        if self._capture_directory is not None and self.plan.captures:
            self._capture_directory.mkdir(parents=True, exist_ok=True)
        for end in self.plan.captures:
            interface = next(
                one for one in self.plan.nodes[end.node].interfaces if one.name == end.interface
            )
            capture = Capture(interface, self._capture_directory, self._watch.forget)
            self._stack.callback(capture.close)
            self._captures[str(end)] = capture
            process = capture.start(self._group, sites[end.node].namespace)
            self._depend_on(process, f"the capture of {end}")
        for capture in self._captures.values():
            capture.await_ready()


def _allow_descriptors(wanted: int) -> None:
    """Raise this process's own soft limit of open files, as far as its hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise LabError(
            f"This topology needs about {wanted} open files and the limit is {hard}. "
            "Raise it: `ulimit -Hn` shows it, /etc/security/limits.conf sets it."
        )
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
