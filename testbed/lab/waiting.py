"""Waiting for work that must come to its end, whatever interrupts the one who waits."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeAlias, TypeVar

R = TypeVar("R")


class Step(NamedTuple):
    """Work in another thread that is waited for; `hurry` is called when the wait is interrupted."""

    work: Future[Any]
    hurry: Callable[[], None]


#: Yields steps, gets their results (or what they raise) and returns a result of its own.
Steps: TypeAlias = Generator[Step, Any, R]


def take_steps(steps: Steps[R]) -> R:
    """Take the steps one after the other and return what they come to."""
    try:
        step = next(steps)
        while True:
            try:
                result = wait_to_the_end(*step)
            except BaseException as error:  # noqa: BLE001  (for `steps` to handle or to raise)
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        outcome: R = stop.value
        return outcome


async def take_steps_async(steps: Steps[R]) -> R:
    """The same for a coroutine."""
    try:
        step = next(steps)
        while True:
            try:
                result = await await_to_the_end(*step)
            except BaseException as error:  # noqa: BLE001  (for `steps` to handle or to raise)
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        outcome: R = stop.value
        return outcome


def wait_to_the_end(future: Future[R], hurry: Callable[[], None]) -> R:
    """The result of work in another thread.

    An exception raised in this one meanwhile (by a signal: Ctrl-C, a time-out) calls `hurry` and
    is raised when the work has ended.
    """
    interruption: BaseException | None = None
    hurried = False
    while not future.done():
        try:
            if interruption is not None and not hurried:
                hurry()
                hurried = True
            concurrent.futures.wait([future])
        except BaseException as error:  # noqa: BLE001  (raised below)
            interruption = error
    if interruption is not None:
        raise interruption
    return future.result()


async def await_to_the_end(future: Future[R], hurry: Callable[[], None]) -> R:
    """The same for a coroutine, which may be cancelled meanwhile."""
    work = asyncio.wrap_future(future)
    interruption: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            interruption = error
            hurry()
    if interruption is not None:
        work.exception()  # looked at, so that nobody complains that it was not
        raise interruption
    return work.result()
