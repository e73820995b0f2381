"""What makes the emulated links of a lab: one interface, whichever emulator it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from testbed.emulator.emulator import Emulator
from testbed.emulator.fate_file import FateFile
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink.rtnetlink import LinkEnd
from testbed.kernel.netlink.socket import Netlink
from testbed.kernel.placement import Placement
from testbed.kernel.processes.helper import Helper
from testbed.topology.planning.plan_model import PlannedLink


class Workshop(NamedTuple):
    """What a lab under construction lends to the builder of its emulated links.

    new_namespace: makes a namespace that ends with the lab.
    start_helper: runs a module as a process of the lab, under a name for messages.
    take_index: gives an interface index that is used nowhere else in the lab.
    at_end: what is given back when the lab ends.
    directory: where logs go; None for files without names.
    """

    new_namespace: Callable[[], Namespace]
    start_helper: Callable[[str, str], Helper]
    take_index: Callable[[], int]
    at_end: contextlib.ExitStack
    directory: Path | None


class LinkEndInNode(NamedTuple):
    """One end of a link that is still to be made.

    namespace: of the node.
    netlink: a conversation with the kernel there.
    interface: what the end is to be.
    """

    namespace: Namespace
    netlink: Netlink
    interface: LinkEnd


class MadeLink(NamedTuple):
    """A link that is there.

    emulator: knows it by its name.
    fates: where the fate of every packet goes, if it was asked for.
    """

    emulator: Emulator
    fates: FateFile | None = None


class EmulatorBuilder(Protocol):
    """Makes the emulated links of one lab; its methods are called in this order."""

    #: As topologies call the emulator.
    name: str
    #: Whether the kernel merges and splits segments at the ends of its links until told not to.
    has_offloads: bool

    def start(self, links: int) -> Sequence[Helper]:
        """Start the processes that so many links need, so that they come up meanwhile."""

    def place(self, placements: Mapping[str, Placement | None]) -> None:
        """Tell which processors each of its processes may use under load, by its name."""

    def add_link(
        self, name: str, link: PlannedLink, a: LinkEndInNode, b: LinkEndInNode
    ) -> MadeLink:
        """Make both ends of a link, still down, and what is between them.

        Raises `LabError` for impairments that the emulator cannot do, `KernelError` for what the
        kernel cannot.
        """

    def links_added(self) -> None:
        """Called once, after the last link."""

    def await_carriers(self) -> None:
        """Return when frames can pass through every link; the ends must be up.

        Raises `ReadBackError` when they do not come to.
        """

    @property
    def steering(self) -> Mapping[str, str]:
        """Which processors share the work of its processes under load, or why none do."""
