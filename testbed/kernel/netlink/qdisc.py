"""Queueing disciplines of interfaces: putting them there, reading them back, their counters.

Source: include/uapi/linux/rtnetlink.h (tcmsg, TCA_*), gen_stats.h, pkt_sched.h (*_xstats),
net/sched/sch_api.c.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Protocol

import msgspec
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from testbed.errors import KernelError
from testbed.kernel.netlink import queue_qdiscs as queues
from testbed.kernel.netlink.netem_qdisc import Netem
from testbed.kernel.netlink.socket import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
    encode,
    pack,
)

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_TC_H_ROOT = 0xFFFFFFFF
_TCM = struct.Struct("=Bxxxi3I")
_KIND, _OPTIONS, _STATS2 = 1, 2, 7
_STATS_QUEUE, _STATS_APP = 3, 4

_ROOT = 0x10000
_ROOT_CLASS = _ROOT | 1
# A handle of its own for each kind: the kernel replaces a qdisc only by one of another handle.
_BEHIND = {
    kind: number << 16
    for number, kind in enumerate(
        ("pfifo", "bfifo", "red", "codel", "fq_codel", "pie", "cake"), start=2
    )
}


class Qdisc(Protocol):
    """A qdisc as it is asked for, or as it is read back."""

    @property
    def kind(self) -> str:
        """As the kernel calls it."""

    def encode(self) -> bytes:
        """The content of TCA_OPTIONS."""

    def tells_of(self, asked: object) -> bool:
        """Whether a kernel that was asked for `asked` tells this."""


class QdiscState(msgspec.Struct, frozen=True, kw_only=True):
    """A qdisc as the kernel has it, counters since it was made.

    options: as `decode` reads them. waiting: packets in it now. requeues: for netem, packets that
    were put before others. aqm_drops, marks: by the discipline itself.
    """

    kind: str
    options: bytes
    waiting: int
    drops: int
    requeues: int
    aqm_drops: int
    marks: int


def put(index: int, qdisc: Qdisc, *, behind: bool = False) -> Request:
    """Give an interface a qdisc at its root, or one behind that.

    One of the same kind that is there is changed and keeps its packets, except that red drops
    them (__red_change) and tbf fills its bucket (tbf_change). One of another kind is replaced
    behind the root, and drops its packets; at the root it must not be there.
    """
    handle, parent = (_BEHIND[qdisc.kind], _ROOT_CLASS) if behind else (_ROOT, _TC_H_ROOT)
    body = (
        _TCM.pack(0, index, handle, parent, 0)
        + attribute(_KIND, qdisc.kind.encode() + b"\0")
        + attribute(_OPTIONS, qdisc.encode())
    )
    data = pack(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
    return Request(data, f"put the qdisc {qdisc.kind} on an interface")


def take_away(index: int) -> Request:
    """Give an interface back the qdisc that it was born with."""
    data = pack(_RTM_DELQDISC, 0, _TCM.pack(0, index, 0, _TC_H_ROOT, 0))
    return Request(data, "take the qdisc off an interface")


def look(netlink: Netlink, index: int, behind: str | None = None) -> QdiscState:
    """The qdisc at the root of an interface, or the one of the kind `behind` behind it."""
    handle, parent = (0, _TC_H_ROOT) if behind is None else (_BEHIND[behind], 0)
    payload = netlink.get(pack(_RTM_GETQDISC, 0, _TCM.pack(0, index, handle, parent, 0)))
    given = attributes(payload, _TCM.size)
    kind = given[_KIND].rstrip(b"\0").decode()
    stats = attributes(given[_STATS2])
    waiting, _, drops, requeues, _ = struct.unpack_from("=5I", stats[_STATS_QUEUE])
    aqm_drops, marks = _judgements(kind, stats.get(_STATS_APP, b""), drops)
    return QdiscState(
        kind=kind,
        options=given.get(_OPTIONS, b""),
        waiting=waiting,
        drops=drops,
        requeues=requeues,
        aqm_drops=aqm_drops,
        marks=marks,
    )


_DECODERS: dict[str, Callable[[bytes], Qdisc]] = {
    "netem": Netem.decode,
    "tbf": queues.Tbf.decode,
    "pfifo": queues.Fifo.decode_packets,
    "bfifo": queues.Fifo.decode_bytes,
    "red": queues.RandomEarly.decode,
    "codel": queues.ControlledDelay.decode,
    "fq_codel": queues.FairControlledDelay.decode,
    "pie": queues.ProportionalIntegral.decode,
    "cake": queues.Cake.decode,
}


def decode(state: QdiscState) -> Qdisc:
    """The qdisc in the form in which it is asked for. Raises `KernelError` for another kind."""
    if state.kind not in _DECODERS:
        raise KernelError(f"The kernel has a qdisc {state.kind} where another was put.")
    return _DECODERS[state.kind](state.options)


def _judgements(kind: str, stats: bytes, drops: int) -> tuple[int, int]:
    """(dropped, marked) by the discipline itself, out of its own statistics."""
    match kind:
        case "red":
            early, _, _, marked = struct.unpack_from("=4I", stats)
            return early, marked
        case "codel":
            _, _, _, _, _, overlimit, marked = struct.unpack_from("=4Ii2I", stats)
            return drops - overlimit, marked
        case "fq_codel":
            _, _, overlimit, marked = struct.unpack_from("=4I", stats)
            return drops - overlimit, marked
        case "pie":
            *_, dropped, _, _, marked = struct.unpack_from("=Q8I", stats)
            return dropped, marked
        case "cake":
            return drops, _cake_marks(stats)
        case _:
            return 0, 0


_CAKE_TINS, _CAKE_TIN_MARKED = 10, 8


def _cake_marks(stats: bytes) -> int:
    tins = attributes(attributes(stats).get(_CAKE_TINS, b""))
    return sum(
        struct.unpack_from("=I", attributes(tin).get(_CAKE_TIN_MARKED, bytes(4)))[0]
        for tin in tins.values()
    )


def is_available(netlink: Netlink, index: int, kind: str) -> bool:
    """Whether the kernel has (or could load) the qdisc `kind`, told by putting it on an interface.

    It is asked for without options: a kernel that has it and wants some says something else than
    that it does not know it. Raises `PrivilegeError` where nobody may ask.
    """
    message = tcmsg()
    message["index"] = index
    message["parent"] = _TC_H_ROOT
    message["attrs"] = [["TCA_KIND", kind]]
    data = encode(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, message)
    asked = Request(data, f"add the qdisc {kind}")
    try:
        netlink.execute([asked])
    except KernelError as error:
        if error.number in (errno.EPERM, errno.EACCES):
            raise
        return error.number != errno.ENOENT
    return True
