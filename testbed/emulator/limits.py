"""What no link can have: impairments are checked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.topology.checks.impairments import impossible
from testbed.topology.model import Impairments, KernelAqm


def refuse_impossible(impairments: Impairments, *, kernel_queues: bool = False) -> None:
    """Raise `ValueError`, naming everything that the userspace emulator cannot do.

    kernel_queues: let queue disciplines pass that only the kernel has.
    """
    problems = list(_problems(impairments, kernel_queues))
    if problems:
        raise ValueError("; ".join(problems))


def _problems(given: Impairments, kernel_queues: bool) -> Iterator[str]:
    yield from map(str, impossible((), given))
    if isinstance(given.queue.aqm, KernelAqm) and not kernel_queues:
        yield (
            f"the userspace emulator has no {given.queue.aqm.name}, only red and codel: take one "
            "of them, or the netem emulator on a kernel that has it"
        )
