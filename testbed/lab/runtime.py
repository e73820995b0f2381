"""What a lab holds while it lives, gives back in the end, and what may go wrong meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Literal, TypeAlias

from testbed.errors import LabError, ProcessDied, TestbedError
from testbed.kernel.namespace import Namespace, NamespaceThread
from testbed.kernel.processes.confinement import Confinement
from testbed.kernel.processes.group import NodeView, ProcessGroup
from testbed.kernel.processes.helper import Helper, start_helper
from testbed.kernel.processes.process import Process, deadline_in, time_left
from testbed.lab.calls import Calls
from testbed.lab.hosts import address_selection, hosts_file
from testbed.lab.sockets import Sockets
from testbed.lab.watch import Watch, Watched
from testbed.topology.planning.plan_model import Plan

State: TypeAlias = Literal["new", "being built", "running", "closed"]

_SAME_MOMENT = 0.2
_FAREWELL_SECONDS = 5.0


class Runtime:
    """One lab's thread, programs, sockets and namespaces, from its building to its end."""

    def __init__(self, plan: Plan) -> None:
        self.name = plan.topology.name
        self._plan = plan
        self.state: State = "being built"
        self.failure: TestbedError | None = None
        self.thread = NamespaceThread()
        self.group = ProcessGroup(self.thread)
        self.sockets = Sockets()
        self.calls = Calls()
        self.stack = contextlib.ExitStack()
        self._cancelled = False
        self._watch: Watch | None = None
        self._failure_lock = threading.Lock()
        self._to_tell: list[Callable[[TestbedError], None]] = []
        self._causes: list[tuple[Watched, str]] = []
        self._programs: weakref.WeakSet[Process] = weakref.WeakSet()
        self._helpers: list[Helper] = []

    def begin(self) -> None:
        """Take what is needed throughout; runs in the namespace thread."""
        self._watch = Watch(self.group.tidy)

    def check(self) -> None:
        """Raise what has gone wrong in the background, or that the lab is not running here."""
        self.thread.owner.check()
        if self.failure is not None:
            raise self.failure
        if self.state != "running":
            raise LabError(f"The lab '{self.name}' is {self.state}, not running.")

    def cancel(self) -> None:
        """Have the building stop at its next step; its helper processes end at once."""
        self._cancelled = True
        self.group.kill()

    def step(self) -> None:
        """To be called now and then while building. Raises `LabError` when it is cancelled."""
        if self._cancelled:
            raise LabError(f"The building of the lab '{self.name}' was interrupted.")

    def new_namespace(self) -> Namespace:
        """A namespace that is given up at the end."""
        self.step()
        namespace = self.thread.create_namespace()
        self.stack.callback(namespace.close)
        return namespace

    def start_program(
        self,
        view: NodeView | Confinement,
        namespace: Namespace,
        argv: Sequence[str | os.PathLike[str]],
        **options: Any,
    ) -> Process:
        """Start a program of the user's in a node: it is killed when the lab fails.

        view, options: see `ProcessGroup.start`.
        """
        self.check()
        program = self.group.start(namespace, argv, view=view, **options)
        self._programs.add(program)
        if self.failure is not None:
            program.kill()
        return program

    def call(
        self,
        node: str,
        namespace: Namespace,
        function: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Future[Any]:
        """Have a function of the user's run in a node, in a thread of its own."""
        self.check()
        destination = self.group.destination(namespace, self.view(node))
        return self.calls.begin(destination, function, *args, **kwargs)

    def view(self, node: str) -> NodeView:
        """What programs in a node take for their machine."""
        return NodeView(node, hosts_file(self._plan, node), address_selection(self._plan))

    def start_helper(self, namespace: Namespace, module: str, name: str) -> Helper:
        """Run a helper process, on which the lab depends; `name` is for messages."""
        helper = start_helper(self.group, namespace, module, name)
        self._helpers.append(helper)
        self.stack.callback(helper.channel.close)
        self.depend_on(helper.process, name)
        return helper

    def _end_helpers(self) -> None:
        """Let helper processes end by themselves: they know how to close many interfaces soon."""
        for helper in self._helpers:
            helper.channel.close()
        deadline = deadline_in(_FAREWELL_SECONDS)
        for helper in self._helpers:
            helper.process.ended_within(time_left(deadline))

    def depend_on(self, process: Watched, name: str, *, by_itself: bool = True) -> None:
        """Take the end of a process, before it is intended, for the failure of the lab.

        One that does not end `by_itself` ends because another one did: an interface vanishes with
        the process at its other end.
        """
        if by_itself:
            self._causes.append((process, name))

        def on_end() -> None:
            cause = (process, name) if by_itself else self._dead_cause() or (process, name)
            self.fail(self._describe_end(*cause))

        assert self._watch is not None
        self._watch.add(process, on_end)

    def expect_end(self, process: Process) -> None:
        """Depend on a process no longer."""
        if self._watch is not None:
            self._watch.forget(process)

    def _dead_cause(self) -> tuple[Watched, str] | None:
        deadline = deadline_in(_SAME_MOMENT)
        for process, name in self._causes:
            if process.ended_within(time_left(deadline)):
                return process, name
        return None

    def _describe_end(self, process: Watched, name: str) -> ProcessDied:
        how = process.ending()
        said = process.said_last().strip()
        return ProcessDied(
            f"{name[0].upper()}{name[1:]} {how}, so the lab '{self.name}' is no longer "
            f"what its topology says{f'. It said: {said}' if said else '.'}"
        )

    def fail(self, failure: TestbedError) -> None:
        """Let nobody wait for what will never come: wake all sockets, kill all programs."""
        if self._cancelled:
            return  # we have killed the process ourselves
        with self._failure_lock:
            to_tell = self._to_tell if self.failure is None else []
            self.failure = self.failure or failure
        for tell in to_tell:
            tell(failure)
        self.sockets.wake()
        self.calls.give_up(self.failure)
        for program in list(self._programs):
            program.kill()

    def on_failure(self, tell: Callable[[TestbedError], None]) -> None:
        """Call this once, with the first failure, also where that has been already."""
        with self._failure_lock:
            failure = self.failure
            self._to_tell.append(tell)
        if failure is not None:
            tell(failure)

    def end(self) -> None:
        """Give everything back; runs in the namespace thread, after which only it is left."""
        self.state = "closed"
        if self._watch is not None:
            self._watch.close()
        self.sockets.close()
        self.calls.give_up(LabError(f"The lab '{self.name}' has been taken down."))
        if self.failure is None and not self._cancelled:
            self._end_helpers()
        self.group.close()
        self.stack.close()
