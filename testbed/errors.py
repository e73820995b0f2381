"""Every error that testbed raises on purpose.

One hierarchy: catching `TestbedError` catches all of them. Each message says what was asked
for, what was found and what to do, in one paragraph fit to be printed without a traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence


class TestbedError(Exception):
    """Base of all errors of this package; its text is written for the person at the terminal."""

    __test__ = False  # pytest would otherwise take the name for a test class


class TopologyError(TestbedError):
    """A topology cannot be used; `problems` holds one line per fault, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class InvalidValue(TestbedError):
    """A value (quantity, name, address) cannot be used; the text says what was expected and got."""


class KernelError(TestbedError):
    """The kernel refused an operation, or did something else than was asked.

    number: the errno, where the kernel gave one.
    """

    number: int | None = None


@contextlib.contextmanager
def blame(where: str) -> Iterator[None]:
    """Begin the text of kernel errors with the node (or link) that they are about."""
    try:
        yield
    except KernelError as error:
        raise type(error)(f"{where}: {error}") from None


class PrivilegeError(KernelError):
    """The operation needs privileges that this process does not have."""


class ReadBackError(KernelError):
    """What the kernel reports differs from what was set."""


class MissingProgram(TestbedError):
    """A program that is needed is not installed; the message names the Debian package."""


class CommandFailed(TestbedError):
    """A program run in a node ended with a status other than 0, or did not get ready in time."""

    def __init__(
        self,
        argv: Sequence[str],
        status: int | None,
        stdout: str = "",
        stderr: str = "",
        reason: str = "",
    ) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        said = "".join(
            f"\n{name}: {text.strip()}"
            for name, text in (("stdout", stdout), ("stderr", stderr))
            if text.strip()
        )
        what = reason or f"ended with status {status}"
        super().__init__(f"{' '.join(self.argv)}: {what}{said}")


class ProcessDied(TestbedError):
    """A process that a running lab depends on (emulator, middlebox, capture) is gone."""


class EngineError(TestbedError):
    """The container engine is missing or too old, or refused what a container node needs."""


class LabError(TestbedError):
    """A lab was asked for something it does not have or cannot do in its present state."""


class CaptureError(TestbedError):
    """A capture is not complete, so nothing may be concluded from it."""


class TraceError(TestbedError):
    """A pcap file cannot be read; the message gives the file and the offset."""


class ScenarioError(TestbedError):
    """A scenario was asked for with parameters that it does not have or cannot take."""


class ConformanceError(TestbedError):
    """A check or a profile was asked for that does not exist, or a trace that none can judge."""
