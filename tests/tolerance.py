"""How far a time may be from what was asked for, by the clock that this kernel runs by.

By the virtual clock nothing is late: a look at the clock takes 256 ns, and that is all. By the
real one other work and stalls make times late, never early.
"""

from __future__ import annotations

from typing import Final

from testbed.kernel.clock import waits_are_exact

#: Seconds: four looks at the virtual clock.
EXACT: Final = 1e-6


def tolerance(real: float, virtual: float = EXACT) -> float:
    """What is tolerated by this kernel's clock: `real` by the real one, `virtual` by the other."""
    return virtual if waits_are_exact() else real
