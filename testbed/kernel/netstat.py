"""What a namespace's kernel has counted of IP, TCP and UDP, as `nstat` shows it.

Source: proc_net(5), net/ipv4/proc.c: pairs of lines, names and then numbers.
"""

from __future__ import annotations

from pathlib import Path

_FILES = ("snmp", "netstat")
#: Settings that stand among the counters.
_SETTINGS = frozenset({"Forwarding", "DefaultTTL", "RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn"})


def protocol_counters() -> dict[str, dict[str, int]]:
    """Counters by protocol, such as `Tcp` and `TcpExt`, of the calling thread's namespace.

    Those that are 0 are left out.
    """
    found: dict[str, dict[str, int]] = {}
    for file in _FILES:
        found |= parse_counters(Path(f"/proc/thread-self/net/{file}").read_text())
    return found


def parse_counters(text: str) -> dict[str, dict[str, int]]:
    """The counters in a text of pairs of lines."""
    lines = text.splitlines()
    found = {}
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        protocol, _, words = names.partition(":")
        counted = zip(words.split(), numbers.partition(":")[2].split(), strict=True)
        counters = {
            name: int(number) for name, number in counted if int(number) and name not in _SETTINGS
        }
        if counters:
            found[protocol] = counters
    return found
