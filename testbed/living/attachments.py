"""What runs in a lab with descriptors of a client's: programs, and captures into its files."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import msgspec

from testbed.errors import LabError
from testbed.living.orders import CaptureOrder, Program
from testbed.wording import quote

if TYPE_CHECKING:
    from testbed.kernel.processes.process import Process
    from testbed.lab import Lab
    from testbed.living.conversation import Conversation


def run_attached(lab: Lab, node: str, program: Program, conversation: Conversation) -> None:
    """Run it; its signals come, and its status goes, by the conversation.

    A client that hangs up ends it. What it leaves in the background when it ends itself stays.
    """
    streams = conversation.receive_descriptors(3)
    try:
        process = lab[node].start(
            program.argv,
            env=program.env,
            cwd=program.cwd,
            streams=(streams[0], streams[1], streams[2]),
            terminal=program.terminal,
        )
    finally:
        for stream in streams:
            os.close(stream)
    conversation.tell(pid=process.pid)
    try:
        _follow(process, conversation)
    finally:
        if process.running:
            process.stop()
    lab.check()  # a lab that has failed kills its programs
    conversation.tell(status=process.wait())


def _follow(process: Process, conversation: Conversation) -> None:
    """Pass signals on until it ends, or the client hangs up."""
    pidfd = os.pidfd_open(process.pid)
    try:
        for words in conversation.hear(until=pidfd):
            number = words.get("signal")
            if not isinstance(number, int) or number not in signal.valid_signals():
                raise LabError(f"A program can be told a signal, and not {quote(words)}.")
            process.signal_group(number)
    finally:
        os.close(pidfd)


def run_capture(
    lab: Lab, node: str, interface: str, order: CaptureOrder, conversation: Conversation
) -> None:
    """Capture into the client's file until the client hangs up or says anything."""
    (descriptor,) = conversation.receive_descriptors(1)
    capture = lab.start_capture(node, interface, os.fdopen(descriptor, "wb"), live=order.live)
    conversation.tell(ready=True)
    try:
        assert capture.process is not None
        pidfd = os.pidfd_open(capture.process.pid)
        try:
            next(conversation.hear(until=pidfd), None)
        finally:
            os.close(pidfd)
    finally:
        try:
            counts = capture.stop()
        finally:
            capture.close()
    conversation.tell(counts=msgspec.to_builtins(counts))
