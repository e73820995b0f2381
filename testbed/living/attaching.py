"""Running a program in a node of a lab as if it ran here: with these streams, or a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from testbed.errors import LabError
from testbed.living.client import LabClient, node_path
from testbed.living.conversation import Conversation
from testbed.living.orders import Program

_STREAMS = (0, 1, 2)
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_LAST_WORDS_SECONDS = 0.5


def run_in_node(client: LabClient, node: str, argv: Sequence[str], *, terminal: bool) -> int:
    """The status of a program in a node, 128 + N where signal N has killed it.

    It has this process's environment, folder and streams, and gets its signals; or a terminal of
    its own, which is shown at this process's. Raises `LabError`.
    """
    program = Program(argv=list(argv), env=_environment(), cwd=str(Path.cwd()), terminal=terminal)
    path = node_path(node, "attach")
    if not terminal:
        with client.converse(path, program, _STREAMS) as talk, _signals_passed_on(talk):
            return _status(client, talk)
    ours, theirs = os.openpty()
    with _copied_to_terminal(ours):
        try:
            conversation = client.converse(path, program, [theirs] * 3)
            with conversation as talk:
                os.close(theirs)
                theirs = -1
                return _status(client, talk)
        finally:
            if theirs >= 0:
                os.close(theirs)


def _environment() -> dict[str, str]:
    """This process's, without what no JSON can hold."""
    found = {}
    for name, value in os.environ.items():
        with contextlib.suppress(UnicodeEncodeError):
            (name + value).encode()
            found[name] = value
    return found


def _status(client: LabClient, talk: Conversation) -> int:
    for words in talk.hear():
        if "error" in words:
            raise LabError(words["error"])
        if "status" in words:
            status = int(words["status"])
            return status if status >= 0 else 128 - status
    raise LabError(f"The holder of the lab '{client.record.name}' has ended meanwhile.")


@contextlib.contextmanager
def _signals_passed_on(talk: Conversation) -> Iterator[None]:
    def tell(number: int, _: FrameType | None) -> None:
        talk.tell(signal=number)

    before = {number: signal.signal(number, tell) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _copied_to_terminal(master: int) -> Iterator[None]:
    """Show what is written to a pseudo-terminal at ours, and type there what is typed at ours."""

    def resize(*_: object) -> None:
        termios.tcsetwinsize(master, termios.tcgetwinsize(0))

    before = termios.tcgetattr(0)
    resize()
    resized = signal.signal(signal.SIGWINCH, resize)
    tty.setraw(0)
    over = os.eventfd(0, os.EFD_CLOEXEC)
    copying = threading.Thread(target=_copy, args=[master, over], daemon=True)
    copying.start()
    try:
        yield
    finally:
        copying.join(_LAST_WORDS_SECONDS)  # longer only where something keeps the terminal open
        os.eventfd_write(over, 1)
        copying.join()
        signal.signal(signal.SIGWINCH, resized)
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        os.close(over)
        os.close(master)


def _copy(master: int, over: int) -> None:
    """Copy both ways until the program has closed its terminal, or it is over."""
    poll = select.poll()
    for fd in (0, master, over):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if over in ready:
            return
        if master in ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other side open
                return
            while data:
                data = data[os.write(1, data) :]
        if 0 in ready:
            typed = os.read(0, 65536)
            if not typed:
                poll.unregister(0)
            while typed:
                typed = typed[os.write(master, typed) :]
