"""The lab: a topology that is running."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO

import msgspec

from testbed.emulator.counters import Lateness
from testbed.errors import CaptureError, LabError, TestbedError
from testbed.lab.capture import Capture, longest_frame
from testbed.lab.construction import Construction
from testbed.lab.draining import drain
from testbed.lab.link import LabLink
from testbed.lab.node import LabNode
from testbed.lab.runtime import Runtime, State
from testbed.lab.waiting import Step, Steps, take_steps, take_steps_async
from testbed.loading import checked, load
from testbed.middlebox.registry import find
from testbed.topology import kinds
from testbed.topology.model import Endpoint, Topology
from testbed.topology.names import unknown_node
from testbed.topology.planning.plan import plan
from testbed.topology.planning.plan_model import Plan
from testbed.wording import sentence


def keeps_files(topology: Topology) -> bool:
    """Whether a lab of this topology writes captures, fates of packets or logs of functions, or,
    when it fails, logs of nodes."""
    logs = any(
        find(function.name).keeps_log
        for node in topology.nodes.values()
        for function in node.functions
    )
    logs = logs or any(
        kind.keeps_log for node in topology.nodes.values() if (kind := kinds.find(node.kind))
    )
    return bool(topology.captures) or any(link.log for link in topology.links) or logs


def _refuse_in_another_kernel(topology: Topology) -> None:
    needs = kinds.machine_needs(topology)
    if not needs:
        return
    from testbed.kernel.uml.boot import inside

    if inside():
        raise LabError(
            f"The lab '{topology.name}' cannot be built in this kernel: {needs}. Run it in this "
            "machine's own kernel: `--clock real`, without `--kernel`."
        )


class Lab:
    """A running topology, for use in a `with` or `async with` block, or between `start`
    and `stop`.

    topology: a `Topology`, a `Plan`, or the path or name of a YAML file.
    captures: the directory for pcap files and logs of fates (made when missing); without one,
    they are files without names that vanish with the lab.

    Schedules of links begin when all is ready. Everything a lab makes
    belongs to this process and ends with the block, or with the process, however it dies.

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
            self.plan = msgspec.structs.replace(topology, topology=checked(topology.topology))
        elif isinstance(topology, Topology):
            self.plan = plan(checked(topology))
        else:
            self.plan = plan(load(topology))
        self.build_seconds: dict[str, float] = {}
        self.emulator_name = "none"
        self.steering: Mapping[str, str] = MappingProxyType({})
        if captures is not None and not keeps_files(self.topology):
            raise LabError(
                f"Nothing would be written to {os.fspath(captures)}: the topology "
                f"'{self.topology.name}' has no `captures:`, no link with `log: true` and no "
                "function that logs. Add `captures: [NODE, ...]`, or leave the directory out."
            )
        self._capture_directory = None if captures is None else Path(captures)
        self._nodes: dict[str, LabNode] = {}
        self._links: list[LabLink] = []
        self._captures: dict[str, Capture] = {}
        self._lock = threading.Lock()
        self._claimed = False
        self._runtime: Runtime | None = None

    def __repr__(self) -> str:
        nodes = list(self.plan.nodes)
        some = ", ".join(nodes[:10]) + (f" and {len(nodes) - 10} more" if len(nodes) > 10 else "")
        return f"<Lab {self.topology.name} {self._state}: {some}>"

    @property
    def _state(self) -> State:
        return "new" if self._runtime is None else self._runtime.state

    @property
    def topology(self) -> Topology:
        return self.plan.topology

    @property
    def nodes(self) -> Mapping[str, LabNode]:
        return MappingProxyType(self._nodes)

    @property
    def captures(self) -> Mapping[str, Capture]:
        """The captures by `node:interface`."""
        return MappingProxyType(self._captures)

    @property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """The addresses of each node by its name, for `read_trace(path, nodes=lab.addresses)`."""
        return {
            name: self.plan.addresses(name, 4) + self.plan.addresses(name, 6)
            for name in self.plan.nodes
        }

    @property
    def links(self) -> tuple[LabLink, ...]:
        return tuple(self._links)

    def __getitem__(self, name: str) -> LabNode:
        try:
            return self._nodes[name]
        except KeyError:
            if self._state in ("new", "being built"):
                reason = f"it is {self._state}; use it in a `with` block, or `start` it"
            else:
                reason = f"it has {', '.join(self.plan.nodes)}"
            raise LabError(f"The lab has no node '{name}': {reason}.") from None

    def link(self, a: str, b: str) -> LabLink:
        """The link between two ends, in either order, each a node or `node:interface`.

        Raises `LabError` unless there is exactly one.
        """
        found = [link for link in self._links if link.joins(a, b)]
        if len(found) == 1:
            return found[0]
        for end in (a, b):
            if (node := end.partition(":")[0]) not in self.plan.nodes:
                raise LabError(sentence(f"No link: {unknown_node(node, self.plan.nodes)}"))
        if found:
            names = ", ".join(link.name for link in found)
            told = (
                f"{len(found)} links between '{a}' and '{b}': name one by its interfaces: {names}"
            )
        else:
            names = ", ".join(link.name for link in self._links)
            told = f"no link between '{a}' and '{b}'" + (f", but {names}" if names else "")
        raise LabError(f"The lab has {told}.")

    @property
    def lateness(self) -> Lateness | None:
        """How late packets were handed over up to now, by the worst of the emulator's processes;
        None where nothing measures it."""
        found = [link.counters.lateness for link in self._links if link.planned.emulated]
        return max((one for one in found if one.packets), key=lambda one: one.p99, default=None)

    def check(self) -> None:
        """Raise what has gone wrong in the background, if anything has."""
        if self._runtime is None:
            raise LabError(f"The lab '{self.topology.name}' is new, not running.")
        self._runtime.check()

    def on_failure(self, tell: Callable[[TestbedError], None]) -> None:
        """Have a function called, from any thread, with the failure of the lab when it fails."""
        if self._runtime is not None:
            self._runtime.on_failure(tell)

    def start_capture(
        self, node: str, interface: str, file: IO[bytes], *, live: bool = False
    ) -> Capture:
        """Capture into an open file, a pipe too, beside what the topology captures.

        live: every packet is written at once. `stop()` tells whether all packets were captured;
        the caller closes the capture then, and with it the file.
        """
        self.check()
        assert self._runtime is not None
        longest = longest_frame(self.plan, Endpoint(node, interface))
        capture = Capture(node, interface, longest, file=file, live=live)
        try:
            capture.start(self._runtime.group, self[node].namespace)
            capture.await_ready()
        except BaseException:
            capture.abandon()
            raise
        return capture

    # Beginning and end. All work is done in the lab's own thread, and signals interrupt only the
    # main thread: a Ctrl-C cannot come between making something and taking note of it.

    def start(self) -> Lab:
        """Build the lab and return it; it runs until `stop`, or as long as this process.

        For sessions that no block encloses: a notebook, a Python prompt.
        """
        return take_steps(self._begin())

    def stop(self) -> None:
        """Take the lab down; raises what has gone wrong in the background, as a block does.

        Nothing happens where it has been taken down before.
        """
        take_steps(self._finish(None))

    async def astart(self) -> Lab:
        """`start`, to be awaited."""
        return await take_steps_async(self._begin())

    async def astop(self) -> None:
        """`stop`, to be awaited."""
        await take_steps_async(self._finish(None))

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        take_steps(self._finish(error))

    async def __aenter__(self) -> Lab:
        return await self.astart()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await take_steps_async(self._finish(error))

    def _begin(self) -> Steps[Lab]:
        _refuse_in_another_kernel(self.topology)
        self._claim()
        try:
            runtime = self._runtime = Runtime(self.plan)
            yield Step(runtime.thread.submit(self._build, runtime), runtime.cancel)
            # Not by the lab's own thread: its children are born into another pid namespace, and
            # therefore it cannot start threads (clone(2), EINVAL).
            for link in self._links:
                if link.planned.schedule:
                    link.start_schedule()
            for node in self._nodes.values():
                if node.tcp is not None:
                    node.tcp.begin()
        except BaseException:
            if self._runtime is not None:
                yield Step(self._runtime.thread.submit(self._give_up), self._runtime.cancel)
                self._runtime.thread.close()
            raise
        return self

    def _finish(self, error: BaseException | None) -> Steps[None]:
        runtime = self._runtime
        if runtime is None:
            raise LabError(f"The lab '{self.topology.name}' was never started.")
        if not runtime.thread.owner.is_here:
            return  # a fork that leaves the block: the lab is not its own to end
        if runtime.state == "closed":
            return
        try:
            failed = error is not None or runtime.failure is not None
            ending = runtime.thread.submit(self._end, runtime, failed)
            incomplete = yield Step(ending, runtime.cancel)
        finally:
            runtime.thread.close()
        self._judge(runtime, error, incomplete)

    def _claim(self) -> None:
        with self._lock:
            if self._claimed:
                raise LabError(
                    f"A lab runs once, and '{self.topology.name}' is {self._state}; make another."
                )
            self._claimed = True

    def _build(self, runtime: Runtime) -> None:
        runtime.begin()
        construction = Construction(self.plan, self._capture_directory, runtime)
        # In reach of whoever interrupts the building, too.
        self._nodes, self._captures = construction.nodes, construction.captures
        construction.build()
        self._links = construction.links
        if construction.emulation is not None:
            self.emulator_name = construction.emulation.name
        self.steering = MappingProxyType(construction.steering)
        self.build_seconds = construction.seconds
        if runtime.failure is not None:
            raise runtime.failure
        runtime.state = "running"

    def _end(self, runtime: Runtime, failed: bool) -> CaptureError | None:
        """Complete the captures and take the lab down; the first capture that is not complete."""
        try:
            if failed:
                self._keep_logs()
            return self._complete(runtime)
        finally:
            runtime.end()

    def _give_up(self) -> None:
        """Take down what has been built of a lab."""
        assert self._runtime is not None
        try:
            self._keep_logs()
        finally:
            self._runtime.end()

    def _keep_logs(self) -> None:
        if self._capture_directory is not None:
            for node in self._nodes.values():
                node.keep_log(self._capture_directory)

    def _complete(self, runtime: Runtime) -> CaptureError | None:
        incomplete: list[CaptureError] = []
        logged = [link for link in self._links if link.planned.log]
        if runtime.failure is None:
            if self._captures or logged:
                drain(self._links, self._nodes.values())
            incomplete += [error for link in logged if (error := link.log_error()) is not None]
        for capture in self._captures.values():
            try:
                capture.stop()
            except CaptureError as error:
                incomplete.append(error)
        return incomplete[0] if incomplete else None

    def _judge(
        self, runtime: Runtime, error: BaseException | None, incomplete: CaptureError | None
    ) -> None:
        """Raise what went wrong in the background, unless the block ends by something graver."""
        if runtime.failure is not None and error is not runtime.failure:
            if error is None or isinstance(error, Exception):
                raise runtime.failure from error
        elif incomplete is not None and error is None:
            raise incomplete
