"""The options of the kernel's network emulator, as bytes, and back.

Everything is sent every time: what a change leaves out, the kernel keeps as it was. Probabilities
are shares of 2**32 - 1, times nanoseconds, rates bytes per second.
Source: include/uapi/linux/pkt_sched.h (TCA_NETEM_*), net/sched/sch_netem.c.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

from testbed.kernel.netlink.socket import attribute, attributes

CERTAIN = 0xFFFFFFFF
#: A rate at which a frame takes no time. With any rate, netem keeps packets in order and lets go
#: of the sending socket, as a wire does (netem_enqueue).
INSTANT = (1 << 63) - 1
#: netem's distribution tables are in units of a spread divided by this (NETEM_DIST_SCALE).
TABLE_SCALE = 8192

_KIND = "netem"
_OPTIONS = struct.Struct("=6I")
_U32 = struct.Struct("=I")
_PAIR = struct.Struct("=2I")
_CORRELATIONS = struct.Struct("=3I")
_S64 = struct.Struct("=q")
_U64 = struct.Struct("=Q")
_RATE = struct.Struct("=Ii2I")
_STATE_LOSS = struct.Struct("=5I")
_BURST_LOSS = struct.Struct("=4I")
_CORR, _DELAY_DIST, _REORDER, _CORRUPT, _LOSS, _RATE_ATTR = 1, 2, 3, 4, 5, 6
_RATE64, _LATENCY64, _JITTER64, _PRNG_SEED = 8, 10, 11, 14
_LOSS_GI, _LOSS_GE = 1, 2


class BurstLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Two states (tc_netem_gemodel): p to the bad one, r back, h passes in it, k1 lost in the
    good one."""

    p: int
    r: int
    h: int
    k1: int


class StateLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Four states (tc_netem_gimodel)."""

    p13: int
    p31: int
    p32: int
    p14: int
    p23: int


LossModel: TypeAlias = BurstLoss | StateLoss


class Netem(msgspec.Struct, frozen=True, kw_only=True):
    """A netem qdisc. limit: packets under way at once.

    table: the distribution of the jitter, quantiles in units of a spread / TABLE_SCALE; the
    kernel does not tell it back. seed: None leaves the choice to the kernel, and so does, without
    a word, a kernel before 6.6.
    """

    limit: int
    delay: int = 0
    jitter: int = 0
    jitter_correlation: int = 0
    table: tuple[int, ...] = ()
    loss: int = 0
    loss_model: LossModel | None = None
    duplicate: int = 0
    duplicate_correlation: int = 0
    reorder: int = 0
    reorder_correlation: int = 0
    gap: int = 0
    corrupt: int = 0
    corrupt_correlation: int = 0
    rate: int = INSTANT
    overhead: int = 0
    seed: int | None = None

    @property
    def kind(self) -> str:
        return _KIND

    def encode(self) -> bytes:
        """The content of TCA_OPTIONS."""
        # In the old fields times are in ticks; the 64-bit attributes come after and win.
        parts = [
            _OPTIONS.pack(0, self.limit, self.loss, self.gap, self.duplicate, 0),
            attribute(_LATENCY64, _S64.pack(self.delay)),
            attribute(_JITTER64, _S64.pack(self.jitter)),
            attribute(
                _CORR, _CORRELATIONS.pack(self.jitter_correlation, 0, self.duplicate_correlation)
            ),
            attribute(_REORDER, _PAIR.pack(self.reorder, self.reorder_correlation)),
            attribute(_CORRUPT, _PAIR.pack(self.corrupt, self.corrupt_correlation)),
            attribute(_RATE_ATTR, _RATE.pack(min(self.rate, CERTAIN), self.overhead, 0, 0)),
        ]
        if self.rate > CERTAIN:
            parts.append(attribute(_RATE64, _U64.pack(self.rate)))
        if self.table:
            entries = struct.pack(f"={len(self.table)}h", *self.table)
            parts.append(attribute(_DELAY_DIST, entries))
        if self.loss_model is not None:
            parts.append(attribute(_LOSS, _encode_loss_model(self.loss_model)))
        if self.seed is not None:
            parts.append(attribute(_PRNG_SEED, _U64.pack(self.seed)))
        return b"".join(parts)

    @classmethod
    def decode(cls, options: bytes) -> Netem:
        """What the kernel tells; `table` stays empty."""
        _, limit, loss, gap, duplicate, _ = _OPTIONS.unpack_from(options)
        given = attributes(options, _OPTIONS.size)
        nothing = bytes(16)
        jitter_correlation, _, duplicate_correlation = _CORRELATIONS.unpack_from(
            given.get(_CORR, nothing)
        )
        reorder, reorder_correlation = _PAIR.unpack_from(given.get(_REORDER, nothing))
        corrupt, corrupt_correlation = _PAIR.unpack_from(given.get(_CORRUPT, nothing))
        rate, overhead, _, _ = _RATE.unpack_from(given.get(_RATE_ATTR, nothing))
        if _RATE64 in given:
            (rate,) = _U64.unpack_from(given[_RATE64])
        return cls(
            limit=limit,
            delay=_number(_S64, given.get(_LATENCY64, nothing)),
            jitter=_number(_S64, given.get(_JITTER64, nothing)),
            jitter_correlation=jitter_correlation,
            loss=loss,
            loss_model=_decode_loss_model(given[_LOSS]) if _LOSS in given else None,
            duplicate=duplicate,
            duplicate_correlation=duplicate_correlation,
            reorder=reorder,
            reorder_correlation=reorder_correlation,
            gap=gap,
            corrupt=corrupt,
            corrupt_correlation=corrupt_correlation,
            rate=rate,
            overhead=overhead,
            seed=_number(_U64, given[_PRNG_SEED]) if _PRNG_SEED in given else None,
        )

    def tells_of(self, asked: object) -> bool:
        """Whether a kernel that was asked for `asked` tells this."""
        return isinstance(asked, Netem) and self == msgspec.structs.replace(asked, table=())


def _number(layout: struct.Struct, data: bytes) -> int:
    return int(layout.unpack_from(data)[0])


def _encode_loss_model(model: LossModel) -> bytes:
    if isinstance(model, BurstLoss):
        return attribute(_LOSS_GE, _BURST_LOSS.pack(model.p, model.r, model.h, model.k1))
    return attribute(
        _LOSS_GI, _STATE_LOSS.pack(model.p13, model.p31, model.p32, model.p14, model.p23)
    )


def _decode_loss_model(data: bytes) -> LossModel | None:
    given = attributes(data)
    if _LOSS_GE in given:
        p, r, h, k1 = _BURST_LOSS.unpack_from(given[_LOSS_GE])
        return BurstLoss(p=p, r=r, h=h, k1=k1)
    if _LOSS_GI in given:
        p13, p31, p32, p14, p23 = _STATE_LOSS.unpack_from(given[_LOSS_GI])
        return StateLoss(p13=p13, p31=p31, p32=p32, p14=p14, p23=p23)
    return None
