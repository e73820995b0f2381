"""The faults there are, by the name of the problem."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

from testbed.discovery import modules_of
from testbed.transport.congestion import Congestion
from testbed.transport.connection import TcpConnection
from testbed.transport.opening import Parts
from testbed.transport.receiver import Receiver
from testbed.transport.sender import HostSender
from testbed.transport.timeout import RetransmissionTimeout

_FAULTLESS: Final = Parts(HostSender, Receiver, Congestion, RetransmissionTimeout)
_registered: dict[str, type] = {}

PartType = TypeVar("PartType", bound=type)


def fault(name: str) -> Callable[[PartType], PartType]:
    """Class decorator: a subclass of one of the parts, which has the problem."""

    def register(part: PartType) -> PartType:
        _registered[name] = part
        return part

    return register


@cache
def _discover() -> None:
    modules_of("testbed.transport.faults")


def fault_names() -> tuple[str, ...]:
    """All of them, by the alphabet."""
    _discover()
    return tuple(sorted(_registered))


def parts_with(name: str | None) -> tuple[type[TcpConnection], Parts]:
    """What connections are made of that have a fault, or none. Raises KeyError for an unknown
    name."""
    _discover()
    if name is None:
        return TcpConnection, _FAULTLESS
    faulty: Any = _registered[name]
    if issubclass(faulty, TcpConnection):
        return faulty, _FAULTLESS
    for field, part in zip(Parts._fields, _FAULTLESS, strict=True):
        if issubclass(faulty, part):
            return TcpConnection, _FAULTLESS._replace(**{field: faulty})
    raise TypeError(f"{faulty.__qualname__} is no part of a connection")
