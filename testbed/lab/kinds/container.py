"""The builder of a container: the engine makes it, and the lab goes on in its namespaces."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from testbed.containers.container import (
    Order,
    RunningContainer,
    ended_early,
    start_container,
)
from testbed.containers.engine import ContainerEngine
from testbed.containers.images import ImageWanted, obtain
from testbed.containers.keeping import Keeper
from testbed.containers.owner import OwnerLabel, sweep
from testbed.errors import EngineError, LabError
from testbed.kernel import sysctl
from testbed.kernel.namespace import Namespace
from testbed.kernel.processes.confinement import Confinement, confinement_of, open_namespace
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.lab.defaults import PINNED_SYSCTLS
from testbed.lab.kinds.registry import builds
from testbed.lab.node import LabNode
from testbed.lab.node_builder import NamespaceSource, NodeBuilder
from testbed.lab.runtime import Runtime
from testbed.topology.kinds.container import ContainerSettings, HealthCheck, container_settings
from testbed.topology.model import Topology
from testbed.topology.planning.plan_model import Plan, PlannedNode

R = TypeVar("R")

_AT_ONCE: Final = 8
_INTERRUPTIBLE: Final = 0.2  # seconds between looks at whether the building was interrupted
_AGAIN: Final = 0.1  # seconds from one check of health to the next


class Containers(NamespaceSource):
    """The containers of a lab; they are started together, while the rest of it is begun.

    Raises `EngineError` where there is no engine that can have them, before anything is made.
    """

    def __init__(self, nodes: Sequence[PlannedNode], plan: Plan, runtime: Runtime) -> None:
        super().__init__(nodes, plan, runtime)
        self.settings = {
            node.name: container_settings(plan.topology.nodes[node.name]) for node in nodes
        }
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self.engine = ContainerEngine()
        runtime.stack.callback(self.engine.close)
        wanted = {name: _image_wanted(one) for name, one in self.settings.items()}
        swept = self._begin(sweep, self.engine)
        images = {one: self._begin(obtain, self.engine, one) for one in {*wanted.values()}}
        self._await([swept, *images.values()])
        fresh = runtime.new_namespace()
        lab = secrets.token_hex(6)
        self._keeper = Keeper(self.engine.path, lab)
        self._starting: dict[str, Future[RunningContainer]] = {}
        runtime.stack.callback(self._end)
        for node in nodes:
            order = Order(
                lab=lab,
                owner=OwnerLabel.of_this_thread(),
                node=node.name,
                image=images[wanted[node.name]].result(),
                settings=self.settings[node.name],
                hosts=[f"{name}:{address}" for address, name in plan.names(node.name)],
                # Of others, the lab tells when it sets all of them.
                sysctls=fresh.call(sysctl.known, {**PINNED_SYSCTLS, **node.sysctls}),
            )
            self._starting[node.name] = self._begin(start_container, self.engine, order)

    def _begin(self, function: Callable[..., R], *arguments: object) -> Future[R]:
        """Have it done in a thread, which nobody waits for at the end of the process: what the
        engine still does for it then, the keeper undoes."""
        future: Future[R] = Future()

        def run() -> None:
            with self._slots:
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001  (raised by `result`)
                    future.set_exception(error)

        threading.Thread(target=run, name="testbed-engine", daemon=True).start()
        return future

    def _await(self, futures: Sequence[Future[Any]]) -> None:
        """Wait until all are done, or one has failed. Raises that, or that the building was
        interrupted."""
        left = set(futures)
        while left:
            self.runtime.step()
            done, left = wait(left, _INTERRUPTIBLE, return_when="FIRST_COMPLETED")
            for future in done:
                future.result()

    def container(self, name: str) -> RunningContainer:
        """The running container of a node."""
        future = self._starting[name]
        self._await([future])
        return future.result()

    def namespace(self, name: str) -> Namespace:
        """The network namespace that the engine has made for the container."""
        container = self.container(name)
        self._keeper.take(container.pidfd)
        self.runtime.group.kill_too(container.pidfd)
        if container.ended_within(0):
            raise EngineError(ended_early(name, container.ending(), container.said_last()))
        self.runtime.depend_on(container, f"the container '{name}'")
        namespace = Namespace(self.runtime.thread, open_namespace(container.pid, "net"))
        self.runtime.stack.callback(namespace.close)
        return namespace

    def _end(self) -> None:
        """Have all removed, and wait for that."""
        settled = all(future.done() for future in self._starting.values())
        try:
            self._keeper.end(settled=settled)
        except EngineError as error:
            self.runtime.failure = self.runtime.failure or error
        for future in self._starting.values():
            if future.done() and future.exception() is None:
                future.result().close()


def pull_images(topology: Topology) -> None:
    """Have the engine look for newer images of all containers; those that are built are built
    again on a newer base. Raises `EngineError`."""
    nodes = [node for node in topology.nodes.values() if node.kind == "container"]
    if nodes:
        settings = (msgspec.structs.replace(container_settings(node), pull=True) for node in nodes)
        with contextlib.closing(ContainerEngine()) as engine:
            for wanted in dict.fromkeys(map(_image_wanted, settings)):
                obtain(engine, wanted)


def _image_wanted(settings: ContainerSettings) -> ImageWanted:
    return ImageWanted(settings.image, settings.build, settings.pull)


class ContainerNode(LabNode):
    """A node whose programs run in its container, beside the container's own command."""

    def __init__(
        self,
        planned: PlannedNode,
        plan: Plan,
        namespace: Namespace,
        runtime: Runtime,
        *,
        container: RunningContainer,
        confinement: Confinement,
    ) -> None:
        super().__init__(planned, plan, namespace, runtime)
        self.container = container
        self._view = confinement

    def log(self, last: int = 20) -> list[str]:
        """The newest lines, the newest last, that the container's command has written."""
        self.check()
        return self.container.log(last).decode(errors="replace").splitlines()

    def keep_log(self, folder: Path) -> None:
        """Write what the container's command has written to NODE.log."""
        with contextlib.suppress(EngineError):
            said = self.container.log()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.name}.log").write_bytes(said)


@builds("container")
class ContainerBuilder(NodeBuilder):
    """Builds a node around a container that is running already."""

    namespaces = Containers
    source: Containers

    def make_node(self, runtime: Runtime) -> LabNode:
        """The node, with the way for programs into its container."""
        self.container = self.source.container(self.name)
        self.confinement = confinement_of(
            self.container.pid,
            name=self.name,
            user=self.container.user,
            environment=self.container.environment,
            folder=self.container.folder,
        )
        runtime.stack.callback(self.confinement.close)
        return ContainerNode(
            self.planned,
            self.plan,
            self.namespace,
            runtime,
            container=self.container,
            confinement=self.confinement,
        )

    @property
    def sysctls(self) -> dict[str, str]:
        """All that are pinned: the engine makes namespaces in its own way."""
        missing = self.namespace.call(sysctl.missing, PINNED_SYSCTLS)
        return {**missing, **self.planned.sysctls}

    def await_ready(self, runtime: Runtime) -> None:
        """Wait until the container is healthy, by its node's check or its image's own.

        Raises `LabError` when it is not in time, with what the check and the container said last.
        """
        health = self.source.settings[self.name].health or HealthCheck()
        command = health.command or self.container.image_check()
        deadline = deadline_in(health.deadline)
        found = ""
        while command:
            runtime.step()
            process = runtime.group.start(self.namespace, command, view=self.confinement)
            if not process.ended_within(time_left(deadline)):
                process.kill()
                raise self._not_ready(health, command, found or "did not end")
            if (status := process.wait()) == 0:
                return
            output = b"\n".join(process.output()).decode(errors="replace").strip()
            found = f"ended with status {status}{f', saying: {output}' if output else ''}"
            if self.container.ended_within(min(_AGAIN, time_left(deadline))):
                raise self._not_ready(health, command, found)

    def _not_ready(self, health: HealthCheck, command: Sequence[str], found: str) -> LabError:
        state = f"is running, but not ready after {health.deadline:g} s"
        if self.container.ended_within(0):
            state = self.container.ending()
        words = [f"The container '{self.name}' {state}. Its check {shlex.join(command)} {found}"]
        said = self.container.said_last().strip()
        if said:
            words.append(f". The container said: {said}")
        return LabError("".join(words))
