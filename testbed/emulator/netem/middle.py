"""The middle of a netem link: interfaces in a hidden namespace, joined so that nobody sees them.

    node A --veth-- a   x0 --veth-- x1   y0 --veth-- y1   b --veth-- node B

What comes in by `a` goes out by x0, what comes in by x1 goes out by y0, and so on, both ways. So
each direction passes three ways out, none of them the sender's own, and each of these has the
qdiscs of one hop (testbed.emulator.netem.description): from A to B chance at x0, queue at y0, way
at b.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from testbed.emulator.counters import CAUSES, DirectionCounters
from testbed.emulator.netem.description import Hops
from testbed.errors import KernelError, ReadBackError
from testbed.kernel.netlink import qdisc, redirect, rtnetlink, state
from testbed.kernel.netlink.rtnetlink import LinkEnd
from testbed.kernel.netlink.socket import Netlink, Request
from testbed.topology.model import DirectionName

# Seen by nobody: frames that are redirected keep the addresses they have.
_MAC = "02:00:00:00:00:00"


class Path(msgspec.Struct, frozen=True):
    """One direction, as interface indices: where frames come in, and the ways out of each hop."""

    entry: int
    chance: int
    queue: int
    way: int


class Middle(msgspec.Struct, frozen=True):
    """The six interfaces in the middle of a link, by index; `number` tells links apart."""

    number: int
    a: int
    x0: int
    x1: int
    y0: int
    y1: int
    b: int

    @property
    def paths(self) -> dict[DirectionName, Path]:
        return {
            "forward": Path(self.a, self.x0, self.y0, self.b),
            "reverse": Path(self.b, self.y1, self.x1, self.a),
        }

    @property
    def names(self) -> dict[str, int]:
        """The interfaces by their names."""
        return {f"{field}-{self.number}": getattr(self, field) for field in ("a", *_INNER, "b")}

    def cables(self, namespace: int, end_a: LinkEnd, end_b: LinkEnd) -> list[Request]:
        """Make the interfaces; namespace: the hidden one, as a descriptor.

        All have the link's MTU: queue disciplines take it for the size of a full packet
        (psched_mtu), and with a larger one forgive a standing queue of that size.
        """
        mtu = max(end_a.mtu, end_b.mtu)

        def end(field: str) -> LinkEnd:
            return LinkEnd(
                namespace=namespace,
                name=f"{field}-{self.number}",
                index=getattr(self, field),
                mac=_MAC,
                mtu=mtu,
            )

        return [
            rtnetlink.veth(end_a, end("a")),
            rtnetlink.veth(end("x0"), end("x1")),
            rtnetlink.veth(end("y0"), end("y1")),
            rtnetlink.veth(end_b, end("b")),
        ]

    def joints(self) -> Iterator[Request]:
        """Join the interfaces and set them up."""
        for one, other in ((self.a, self.x0), (self.x1, self.y0), (self.y1, self.b)):
            for index, target in ((one, other), (other, one)):
                yield redirect.accept_filters(index)
                yield redirect.redirect(index, target)
        for name, index in self.names.items():
            yield rtnetlink.set_link(index, name, up=True)


_INNER = ("x0", "x1", "y0", "y1")


class HopsInForce:
    """The qdiscs of one direction in the kernel, and what has been counted by those replaced."""

    def __init__(self, path: Path, hops: Hops) -> None:
        self.path = path
        self.hops = hops
        self._aqm_drops = 0
        self._marks = 0

    def requests(self) -> list[Request]:
        """Put all of them there."""
        return self._changes(None)

    def change(self, netlink: Netlink, hops: Hops) -> None:
        """Turn them into `hops`; those that stay the same are not touched.

        When the kernel refuses one (it may not have the discipline), all are as before.
        """
        before = self.hops
        if hops.queue.kind != before.queue.kind:
            told = qdisc.look(netlink, self.path.queue, before.queue.kind)
            self._aqm_drops += told.aqm_drops
            self._marks += told.marks
        self.hops = hops
        try:
            netlink.execute(self._changes(before))
        except KernelError:
            self.hops = before
            netlink.execute(self.requests())
            raise

    def _changes(self, before: Hops | None) -> list[Request]:
        hops, path = self.hops, self.path
        wanted = []
        if before is None or before.chance != hops.chance:
            wanted.append(qdisc.put(path.chance, hops.chance))
        if before is None or before.limiter != hops.limiter:
            wanted.append(qdisc.put(path.queue, hops.limiter))
        if before is None or before.queue != hops.queue:
            wanted.append(qdisc.put(path.queue, hops.queue, behind=True))
        if before is None or before.way != hops.way:
            wanted.append(qdisc.put(path.way, hops.way))
        return wanted

    def verify(self, netlink: Netlink) -> None:
        """Raise `ReadBackError` unless the kernel has what it was given."""
        hops, path = self.hops, self.path
        for index, asked, behind in (
            (path.chance, hops.chance, None),
            (path.queue, hops.limiter, None),
            (path.queue, hops.queue, hops.queue.kind),
            (path.way, hops.way, None),
        ):
            try:
                found = qdisc.decode(qdisc.look(netlink, index, behind))
            except KernelError as error:
                raise ReadBackError(f"the qdisc {asked.kind} is not there: {error}") from None
            if not found.tells_of(asked):
                raise ReadBackError(f"qdisc: asked for {asked}, the kernel has {found}.")

    def counters(self, netlink: Netlink) -> DirectionCounters:
        """Added up from those of interfaces and qdiscs.

        They are read one after the other, so that they agree with each other to the packet only
        while nothing moves.
        """
        path = self.path
        entry = state.traffic(netlink, path.entry)
        accepted = redirect.redirected(netlink, path.entry)
        chance, limiter, way = (
            qdisc.look(netlink, index) for index in (path.chance, path.queue, path.way)
        )
        queue = qdisc.look(netlink, path.queue, self.hops.queue.kind)
        outs = [state.traffic(netlink, index) for index in (path.chance, path.queue, path.way)]
        after_chance = outs[0].tx_packets + outs[0].tx_dropped + chance.waiting + chance.drops
        aqm_drops = self._aqm_drops + queue.aqm_drops
        dropped = dict.fromkeys(CAUSES, 0)
        dropped["cut"] = max(0, entry.rx_packets - accepted)
        dropped["loss"] = chance.drops
        dropped["aqm"] = aqm_drops
        dropped["queue"] = max(0, limiter.drops - aqm_drops) + way.drops
        dropped["tap"] = sum(out.tx_dropped for out in outs)
        return DirectionCounters(
            packets_in=entry.rx_packets,
            bytes_in=entry.rx_bytes,
            packets_out=outs[2].tx_packets,
            bytes_out=outs[2].tx_bytes,
            dropped=dropped,
            duplicated=max(0, after_chance - accepted),
            reordered=way.requeues,
            corrupted=None,
            marked=self._marks + queue.marks,
            waiting=limiter.waiting,
            in_flight=chance.waiting + way.waiting,
            queue_high_water=None,
        )
