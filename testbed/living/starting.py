"""Starting the holder of a lab, and hearing that the lab runs."""

from __future__ import annotations

import os
import signal

import msgspec

from testbed.errors import LabError
from testbed.kernel.processes.interpreter import module_command, module_environment
from testbed.living.orders import HolderNews, HolderOrder

_READY = 3


def start_holder(order: HolderOrder) -> str:
    """Start a process that keeps a lab, and return the lab's name when it runs.

    Interrupted, it ends the process. Raises `LabError` with the reason why the lab does not run.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(read, "rb") as news:
        try:
            holder = _spawn(order, write)
        finally:
            os.close(write)
        try:
            told = news.read()
        except BaseException:
            os.kill(holder, signal.SIGTERM)
            os.waitpid(holder, 0)
            raise
    heard = msgspec.json.decode(told, type=HolderNews) if told else HolderNews()
    if heard.name:
        return heard.name
    _, status = os.waitpid(holder, 0)
    raise LabError(
        heard.error
        or f"The holder of the lab ended (status {os.waitstatus_to_exitcode(status)}); what it "
        "said is above."
    )


def _spawn(order: HolderOrder, ready: int) -> int:
    """The process, which is nobody's child to be waited for as long as it lives."""
    words = msgspec.json.encode(order).decode()
    argv = module_command("testbed.living.holder", "--ready", str(_READY), words)
    return os.posix_spawn(
        argv[0],
        argv,
        module_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, ready, _READY),
        ],
        setsid=True,
    )
