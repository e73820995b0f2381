"""Ports that programs listen on, as the kernel tells of them in /proc/net (proc_net(5))."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from testbed.errors import LabError

Protocol: TypeAlias = Literal["tcp", "udp"]

# The state of a socket that waits for others: TCP_LISTEN, and for UDP TCP_CLOSE, which says that
# it is not connected (include/net/tcp_states.h).
_WAITING: Final = {"tcp": "0A", "udp": "07"}


class Port(NamedTuple):
    """A port of a protocol; as text `53/udp`."""

    number: int
    protocol: Protocol

    def __str__(self) -> str:
        return str(self.number) if self.protocol == "tcp" else f"{self.number}/{self.protocol}"


def parse_port(given: int | str) -> Port:
    """80, `"80"`, `"80/tcp"` or `"53/udp"`. Raises `LabError`."""
    number, _, protocol = str(given).partition("/")
    protocol = protocol or "tcp"
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise LabError(f"A port is a number from 1 to 65535, or such as '53/udp', not {given!r}.")
    if protocol not in _WAITING:
        raise LabError(f"A port is one of tcp or udp, as in '53/udp', not {given!r}.")
    return Port(int(number), cast(Protocol, protocol))


def listening_ports(protocol: Protocol) -> set[int]:
    """Those in the network namespace of the calling thread."""
    ports = set()
    for name in (protocol, f"{protocol}6"):
        for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _WAITING[protocol]:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports
