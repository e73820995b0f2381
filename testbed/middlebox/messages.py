"""What the lab asks a middlebox process, as both sides know it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from testbed.kernel.placement import Placement
from testbed.kernel.processes.control import Descriptor, Message
from testbed.topology.model import FunctionSpec


class SideDevices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a box.

    tun: what packets come in by, and go out by when there is little load.
    addresses: those that the node itself has on this side.
    steered: a second TUN for packets that go out under load, steered to the receivers.
    """

    tun: Descriptor
    addresses: tuple[str, ...] = ()
    steered: Descriptor | None = None


class Start(Message, frozen=True, kw_only=True):
    """Begin to carry packets; answered with the functions in force.

    name: of the node.
    functions: the outermost first.
    mtu: the smallest of the node's interfaces.
    outside, inside: the devices of both sides; both have a steered one, or neither.
    placement: the processors to use under load, where there are steered devices.
    log_directory: where logs go.
    """

    name: str
    functions: tuple[FunctionSpec, ...]
    mtu: int
    outside: SideDevices
    inside: SideDevices
    placement: Placement | None = None
    log_directory: Descriptor | None = None


class SetEnabled(Message, frozen=True):
    """Let a function act on packets, or let packets pass it by."""

    function: str
    enabled: bool


class SetOptions(Message, frozen=True):
    """Change some options of a function; answered with all of them."""

    function: str
    options: dict[str, Any]


class CountBox(Message, frozen=True):
    """What became of every packet, as `BoxCounters`."""


class Functions(Message, frozen=True):
    """Every function as it is now, as a list of `FunctionState`, the outermost first."""


class Log(Message, frozen=True):
    """The newest lines of the function that keeps a log."""

    last: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
