"""All that the author of a middlebox function needs.

    from testbed.middlebox import PASS, Function, Packet, Verdict, function

A function imports from here and from `testbed.wire`, and nothing else of the testbed.
"""

from testbed.middlebox.flow_table import (
    EVICTED,
    IDLE,
    LINGER,
    LINGERED,
    Flow,
    FlowTable,
    Phase,
    TcpFlow,
    TcpState,
    TcpTable,
    tcp_phases,
)
from testbed.middlebox.function import (
    ABSORB,
    HOLD,
    PASS,
    Box,
    Function,
    NoOptions,
    Verdict,
    drop,
)
from testbed.middlebox.options import Count, Direction, Duration, sides_of
from testbed.middlebox.registry import function
from testbed.middlebox.timers import Timer
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side

__all__ = [
    "ABSORB",
    "EVICTED",
    "HOLD",
    "IDLE",
    "INSIDE",
    "LINGER",
    "LINGERED",
    "OUTSIDE",
    "PASS",
    "Box",
    "Count",
    "Direction",
    "Duration",
    "Flow",
    "FlowTable",
    "Function",
    "NoOptions",
    "Packet",
    "Phase",
    "Side",
    "TcpFlow",
    "TcpState",
    "TcpTable",
    "Timer",
    "Verdict",
    "drop",
    "function",
    "sides_of",
    "tcp_phases",
]
