"""The options of the kernel's rate limiter and of the queues behind it, as bytes, and back.

Source: include/uapi/linux/pkt_sched.h, net/sched/sch_{tbf,fifo,red,codel,fq_codel,pie,cake}.c.
"""

from __future__ import annotations

import math
import struct
from typing import ClassVar, TypeAlias

import msgspec

from testbed.kernel.netlink.socket import attribute, attributes

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_MOST = 0xFFFFFFFF
_TICK = 64  # ns; the unit of times in tc_tbf_qopt (include/net/pkt_sched.h, PSCHED_SHIFT)

# tc_ratespec twice (rate and peak rate), then limit, buffer, mtu.
_TBF = struct.Struct("=BBHhHI BBHhHI 3I")
_LINK_LAYER_ETHERNET = 1
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6

_RED = struct.Struct("=3I4B")
_RED_PARMS, _RED_STAB, _RED_MAX_P = 1, 2, 3
_RED_ECN = 1

_CAKE_BASE_RATE64, _CAKE_OVERHEAD = 2, 6
_ETHERNET_HEADER = 14


class Tbf(msgspec.Struct, frozen=True, kw_only=True):
    """A rate limiter. rate: bytes/s; burst: bytes that may pass at once after a pause; overhead:
    bytes that each packet takes beyond its own; limit: that of the queue behind it, which the
    kernel passes on when that is a `Fifo`."""

    rate: int
    burst: int
    limit: int
    overhead: int = 0
    kind: ClassVar[str] = "tbf"

    def encode(self) -> bytes:
        rate = (0, _LINK_LAYER_ETHERNET, self.overhead, 0, 0, min(self.rate, _MOST))
        parts = [
            attribute(_TBF_PARMS, _TBF.pack(*rate, *(0,) * 6, self.limit, 0, 0)),
            attribute(_TBF_BURST, _U32.pack(self.burst)),
        ]
        if self.rate > _MOST:
            parts.append(attribute(_TBF_RATE64, _U64.pack(self.rate)))
        return b"".join(parts)

    @classmethod
    def decode(cls, options: bytes) -> Tbf:
        """What the kernel tells: the burst as the time that it takes."""
        given = attributes(options)
        _, _, overhead, _, _, rate, *_, limit, buffer, _ = _TBF.unpack_from(given[_TBF_PARMS])
        if _TBF_RATE64 in given:
            (rate,) = _U64.unpack_from(given[_TBF_RATE64])
        burst = round(buffer * _TICK * rate / 1e9) - overhead
        return cls(rate=rate, burst=burst, limit=limit, overhead=overhead)

    def tells_of(self, asked: object) -> bool:
        """Whether a kernel that was asked for `asked` tells this; its times are rounded."""
        if not isinstance(asked, Tbf):
            return False
        rounding = 2 + 2 * _TICK * asked.rate / 1e9
        return abs(self.burst - asked.burst) <= rounding and self == msgspec.structs.replace(
            asked, burst=self.burst
        )


class Fifo(msgspec.Struct, frozen=True, kw_only=True):
    """A drop-tail queue. limit: packets, or bytes where `counts_bytes`."""

    limit: int
    counts_bytes: bool = False

    @property
    def kind(self) -> str:
        return "bfifo" if self.counts_bytes else "pfifo"

    def encode(self) -> bytes:
        return _U32.pack(self.limit)

    @classmethod
    def decode_packets(cls, options: bytes) -> Fifo:
        return cls(limit=_U32.unpack_from(options)[0])

    @classmethod
    def decode_bytes(cls, options: bytes) -> Fifo:
        return cls(limit=_U32.unpack_from(options)[0], counts_bytes=True)

    def tells_of(self, asked: object) -> bool:
        return self == asked


class RandomEarly(msgspec.Struct, frozen=True, kw_only=True):
    """red. limit, minimum, maximum: bytes; probability: share of 2**32; weight_log: the weight of
    the newest sample is 2**-weight_log; packet_time: us that a full packet takes at the rate."""

    limit: int
    minimum: int
    maximum: int
    probability: int
    weight_log: int
    packet_time: float
    ecn: bool
    kind: ClassVar[str] = "red"

    def encode(self) -> bytes:
        cell_log, table = self._idle_table()
        flags = _RED_ECN if self.ecn else 0
        parameters = _RED.pack(
            self.limit, self.minimum, self.maximum, self.weight_log, 0, cell_log, flags
        )
        return (
            attribute(_RED_PARMS, parameters)
            + attribute(_RED_STAB, table)
            + attribute(_RED_MAX_P, _U32.pack(self.probability))
        )

    def _idle_table(self) -> tuple[int, bytes]:
        """By how many powers of two the average has fallen after each of 256 steps of idleness.

        A step is 2**cell_log us, chosen so that the table reaches as far as 31 powers.
        """
        per_us = -math.log2(1 - 2.0**-self.weight_log) / self.packet_time
        cell_log = max(0, min(30, math.ceil(math.log2(31 / per_us / 255))))
        steps = ((index << cell_log) * per_us for index in range(256))
        return cell_log, bytes(min(31, int(step)) for step in steps)

    @classmethod
    def decode(cls, options: bytes) -> RandomEarly:
        """What the kernel tells; `packet_time` it does not."""
        given = attributes(options)
        limit, minimum, maximum, weight_log, _, _, flags = _RED.unpack_from(given[_RED_PARMS])
        (probability,) = _U32.unpack_from(given[_RED_MAX_P])
        return cls(
            limit=limit,
            minimum=minimum,
            maximum=maximum,
            probability=probability,
            weight_log=weight_log,
            packet_time=0.0,
            ecn=bool(flags & _RED_ECN),
        )

    def tells_of(self, asked: object) -> bool:
        return isinstance(asked, RandomEarly) and self == msgspec.structs.replace(
            asked, packet_time=0.0
        )


class _Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """A qdisc whose options are 32-bit attributes, by field name in `numbers`.

    rounded: fields that the kernel keeps in units of its own, told back up to 2 less.
    """

    kind: ClassVar[str]
    numbers: ClassVar[dict[str, int]]
    rounded: ClassVar[tuple[str, ...]] = ()

    def encode(self) -> bytes:
        return b"".join(
            attribute(number, _U32.pack(getattr(self, field)))
            for field, number in self.numbers.items()
        )

    @classmethod
    def decode(cls, options: bytes) -> _Numbers:
        given = attributes(options)
        return msgspec.convert(
            {
                field: _U32.unpack_from(given.get(number, bytes(4)))[0]
                for field, number in cls.numbers.items()
            },
            cls,
            strict=False,
        )

    def tells_of(self, asked: object) -> bool:
        return type(self) is type(asked) and all(
            0 <= getattr(asked, field) - getattr(self, field) <= (2 if field in self.rounded else 0)
            for field in self.numbers
        )


class ControlledDelay(_Numbers, frozen=True, kw_only=True):
    """codel. limit: packets; target, interval: us."""

    limit: int
    target: int
    interval: int
    ecn: bool
    kind: ClassVar[str] = "codel"
    numbers: ClassVar[dict[str, int]] = {"target": 1, "limit": 2, "interval": 3, "ecn": 4}
    rounded: ClassVar[tuple[str, ...]] = ("target", "interval")


class FairControlledDelay(_Numbers, frozen=True, kw_only=True):
    """fq_codel with its defaults. limit: packets."""

    limit: int
    ecn: bool
    kind: ClassVar[str] = "fq_codel"
    numbers: ClassVar[dict[str, int]] = {"limit": 2, "ecn": 4}


class ProportionalIntegral(_Numbers, frozen=True, kw_only=True):
    """pie with its defaults. limit: packets."""

    limit: int
    ecn: bool
    kind: ClassVar[str] = "pie"
    numbers: ClassVar[dict[str, int]] = {"limit": 2, "ecn": 6}


class Cake(msgspec.Struct, frozen=True, kw_only=True):
    """cake with its defaults and its own rate limiter. rate: bytes/s; overhead as for `Tbf`.

    It sizes its own buffer, and marks packets of ECN-capable transports in any case.
    """

    rate: int
    overhead: int
    kind: ClassVar[str] = "cake"

    def encode(self) -> bytes:
        # cake counts packets from the network header on when it is given an overhead.
        overhead = self.overhead + _ETHERNET_HEADER
        return attribute(_CAKE_BASE_RATE64, _U64.pack(self.rate)) + attribute(
            _CAKE_OVERHEAD, struct.pack("=i", overhead)
        )

    @classmethod
    def decode(cls, options: bytes) -> Cake:
        given = attributes(options)
        (overhead,) = struct.unpack_from("=i", given.get(_CAKE_OVERHEAD, bytes(4)))
        (rate,) = _U64.unpack_from(given.get(_CAKE_BASE_RATE64, bytes(8)))
        return cls(rate=rate, overhead=overhead - _ETHERNET_HEADER)

    def tells_of(self, asked: object) -> bool:
        return self == asked


Queue: TypeAlias = (
    Fifo | RandomEarly | ControlledDelay | FairControlledDelay | ProportionalIntegral | Cake
)
