"""How connections ended, of many at once."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from testbed.trace.analysis.progress import NEVER, firsts, grouped
from testbed.trace.table import SegmentTable
from testbed.wire.flags import FIN, RST


class End(StrEnum):
    """How a connection ended, within the capture."""

    FIN = "FIN"
    RST = "RST"
    HALF_CLOSED = "half-closed"
    OPEN = "open"


def endings(table: SegmentTable) -> list[End]:
    """Of each connection of a table, whose rows are together, how it ended.

    RST when one came before both sides had sent their FIN, and ended it. A RST ends nothing if
    both sides send other segments after it: it was out of the window, or answered a challenge ACK
    for another connection.
    """
    starts, group = grouped(table)
    count, key = len(starts), group * 2 + ~table.outward
    is_reset = (table.flags & RST) != 0
    others = np.flatnonzero(~is_reset)
    last = np.full(count * 2, -1, np.int64)
    last[key[others]] = others
    goes_on = last.reshape(-1, 2).min(axis=1)  # -1 where one side said nothing else
    resets = np.flatnonzero(is_reset)
    resets = resets[resets > goes_on[group[resets]]]
    fins = np.flatnonzero(~is_reset & ((table.flags & FIN) != 0))
    reset = firsts(group[resets], resets, count)
    one_fin, both_fins = np.sort(firsts(key[fins], fins, count * 2).reshape(-1, 2), axis=1).T
    cases = [reset < both_fins, both_fins < NEVER, one_fin < NEVER]
    names = [End.RST, End.FIN, End.HALF_CLOSED, End.OPEN]
    return [names[index] for index in np.select(cases, [0, 1, 2], 3).tolist()]
