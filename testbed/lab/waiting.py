"""Waiting for work that must come to its end, whatever interrupts the one who waits."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

R = TypeVar("R")


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
