"""Every function, in a mode in which it should do no harm, lets real TCP through byte by byte.

A new function joins by an entry in `HARMLESS`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from middlebox_path import BOX, CLIENT, SERVER, needs_a_lab, path

from testbed.lab import Lab
from testbed.middlebox.registry import functions
from testbed.traffic import Transfer, transfer

pytestmark = needs_a_lab

HARMLESS: dict[str, dict[str, Any]] = {
    "ack-thinner": {},
    "ecn-black-hole": {"drop": "setup"},
    "ecn-bleach": {},
    "fast-open": {},
    "flow-disorder": {"every": 30, "behind": 1},
    "firewall": {"strict_windows": True},
    "fragments": {},
    "nat": {"on_timeout": "reset"},
    "options": {"strip": ["unknown"], "mss_clamp": 1300},
    "pep": {},
    "pmtu-black-hole": {"mtu": 1400, "icmp": "send"},
    "reset-injector": {"sequence": "outside-window"},
    "sequence-randomiser": {},
    "setup-proxy": {},
    "trace-log": {"flags": ["all"]},
    "window-scale-mangler": {"scale": None},
}
# Other ways of being harmless, as (function, options).
ALSO: dict[str, tuple[str, dict[str, Any]]] = {
    "setup-proxy with cookies": ("setup-proxy", {"cookies": True}),
    "setup-proxy with cookies, no window": ("setup-proxy", {"cookies": True, "answer_window": 0}),
}
CASES = {name: (name, options) for name, options in HARMLESS.items()} | ALSO
CLIENT_IS_INSIDE = {"nat"}

MEGABYTE = 1 << 20
SMALL = 30_000
LOSS = 0.01
# Size, direction and family of each transfer; all go on at once, the large ones side by side.
TRANSFERS = [
    *[(MEGABYTE, direction, family) for direction in ("upload", "download") for family in (4, 6)],
    *[(SMALL, direction, 4) for direction in ("upload", "download") for _ in range(8)],
]


def test_every_function_is_in_the_table():
    assert HARMLESS.keys() == functions().keys()


@pytest.mark.parametrize("case", CASES)
def test_a_harmless_function_carries_twenty_connections_byte_by_byte(case):
    name, options = CASES[case]
    outside = SERVER if name in CLIENT_IS_INSIDE else CLIENT
    whole = path((name, options), loss=LOSS, outside=outside)
    topology = msgspec.structs.replace(whole, captures=())
    with Lab(topology) as lab, ThreadPoolExecutor(len(TRANSFERS)) as threads:

        def carry(case: tuple[int, Any, int]) -> Transfer:
            size, direction, family = case
            return transfer(
                lab[CLIENT],
                lab[SERVER],
                size,
                direction=direction,
                family=family,
                # With cookies a server must not speak first: the ACK before it may get lost.
                asked="cookies" in options,
            )

        carried = list(threads.map(carry, TRANSFERS))
        counters = lab[BOX].counters()
        lost = lab.link(CLIENT, BOX).counters
    assert [one.size for one in carried] == [size for size, _, _ in TRANSFERS]
    assert sum(one.info.total_retrans for one in carried) > 0, lost  # the losses were real
    assert counters.missing == 0
    least = 4 * MEGABYTE
    assert counters.received["outside"].bytes + counters.received["inside"].bytes > least
