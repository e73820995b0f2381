"""Python functions that run in nodes, each in a thread of its own that lives there."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from testbed.errors import LabError, TestbedError
from testbed.kernel.visit import Destination


class Calls:
    """The calls of a lab that go on. Nobody waits for one any longer once the lab has failed.

    A thread cannot be ended from outside: one whose result nobody waits for runs to its own end,
    without a network, or to that of the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going_on: set[Future[Any]] = set()
        self._over: TestbedError | None = None

    def begin(
        self, destination: Destination, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Have a function run at the destination, which is closed then.

        Raises `LabError` where no more threads can be started.
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._over is None:
                self._going_on.add(future)
            else:
                future.set_exception(self._over)
        folder, context = _working_directory(), contextvars.copy_context()

        def run() -> None:
            try:
                with destination:
                    destination.move_in(folder)
                result = context.run(function, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
                if self._is_awaited(future):
                    future.set_exception(error)
            else:
                if self._is_awaited(future):
                    future.set_result(result)

        try:
            threading.Thread(target=run, name="testbed-call", daemon=True).start()
        except RuntimeError as error:
            self._is_awaited(future)
            with destination:
                raise LabError(
                    f"No more calls can go on at a time: {error}. {len(self._going_on)} do."
                ) from None
        return future

    def _is_awaited(self, future: Future[Any]) -> bool:
        """Whether the future is still to be given a result; nobody else gives it one then."""
        with self._lock:
            awaited = future in self._going_on
            self._going_on.discard(future)
        return awaited

    def give_up(self, reason: TestbedError) -> None:
        """Let all who wait, now or later, have this error in place of a result."""
        with self._lock:
            self._over = self._over or reason
            left, self._going_on = self._going_on, set()
        for future in left:
            future.set_exception(reason)


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed
        return "/"
