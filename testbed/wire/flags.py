"""TCP flags (RFC 9293 section 3.1, RFC 3168 section 6.1)."""

from __future__ import annotations

from typing import Final

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80
#: The lowest bit of the byte before, beside the data offset (RFC 9768 section 3.1).
AE: Final = 0x01

#: By name, in the order in which they are shown.
FLAGS: Final = {
    "SYN": SYN, "FIN": FIN, "RST": RST, "ACK": ACK, "PSH": PSH, "URG": URG, "ECE": ECE, "CWR": CWR
}  # fmt: skip


def flag_names(flags: int) -> str:
    """The flags in words: `SYN ACK`."""
    return " ".join(name for name, bit in FLAGS.items() if flags & bit)


def flags_of(text: str) -> int:
    """The flags of a text such as `SYN+ACK`. Raises KeyError for a name that is none."""
    return sum(FLAGS[name] for name in set(text.split("+")))


def opens_connection(flags: int) -> bool:
    """Whether a segment asks for a new connection: SYN, without ACK, RST and FIN."""
    return flags & (SYN | ACK | RST | FIN) == SYN
