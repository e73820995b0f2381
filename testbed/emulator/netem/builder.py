"""The links of a lab made of the kernel's qdiscs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from testbed.emulator.builder import LinkEndInNode, MadeLink, Workshop
from testbed.emulator.netem.emulator import NetemEmulator
from testbed.emulator.netem.probe import NetemSupport
from testbed.kernel.placement import Placement
from testbed.kernel.processes.helper import Helper
from testbed.topology.planning.plan_model import PlannedLink


class NetemBuilder:
    """Makes all links in one hidden namespace, without a process.

    support: what the kernel can do. seed: of all random decisions.
    """

    name = "netem"
    has_offloads = True

    def __init__(self, workshop: Workshop, support: NetemSupport, seed: int) -> None:
        self._seed = seed
        self._emulator = NetemEmulator(workshop.new_namespace(), workshop.take_index, support)
        workshop.at_end.callback(self._emulator.close)
        self.steering: Mapping[str, str] = {}

    def start(self, links: int) -> Sequence[Helper]:
        return ()

    def place(self, placements: Mapping[str, Placement | None]) -> None:
        """It has no processes."""

    def add_link(
        self, name: str, link: PlannedLink, a: LinkEndInNode, b: LinkEndInNode
    ) -> MadeLink:
        self._emulator.add_link(
            name,
            a.interface,
            b.interface,
            link.forward,
            link.reverse,
            seed=self._seed,
            offload=link.offload,
        )
        return MadeLink(self._emulator)

    def links_added(self) -> None:
        """Each is complete when it is added."""

    def await_carriers(self) -> None:
        self._emulator.await_carriers()
