"""The notations of packets: tcpdump's of today and of old, snoop's, and two that RFC 2525 has.

Each reads what follows the names of the hosts. Sources: tcpdump(1), print-tcp.c of tcpdump 4.99 and
3.4; snoop(1M) of Solaris; the traces of Orchestra (RFC 2525 section 2.9) and of an analyser with
hexadecimal numbers (section 2.16).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from testbed.trace.text.line import Piece
from testbed.wire.flags import ACK, CWR, ECE, FIN, FLAGS, PSH, RST, SYN, URG
from testbed.wire.options import (
    FAST_OPEN,
    MSS,
    NOP,
    SACK_PERMITTED,
    TIMESTAMPS,
    WINDOW_SCALE,
)

Fields = dict[str, Any]
"""Fields of a `TextLine`, by name."""

_LETTERS = {"S": SYN, "F": FIN, "P": PSH, "R": RST, "A": ACK, "U": URG, "E": ECE, "W": CWR, ".": 0}
_U32 = (1 << 32) - 1
_NUMBERS = re.compile(r"\bseq (\d+)(?::(\d+))?|(?<![\w.])(\d+):(\d+)\((\d+)\)")
_OPTIONS = re.compile(
    r"options \[([^\[\]]*)\](?:, |$)|<((?:mss|nop|eol|sack|timestamp|wscale)[^<>]*)>"
)
_LOOSE_ROUTE = 131
_FRAGMENT = re.compile(r"\(frag (\d+):(\d+)@(\d+)(\+?)\)")
_SACK = re.compile(r"\{(\d+):(\d+)\}")
_TIMESTAMPS = re.compile(r"(?:TS val|timestamp) (\d+)(?: ecr)? (\d+)")


def tcpdump(text: str) -> Fields | None:
    """`Flags [P.], seq 1:1449, ack 1, win 502, options [nop,nop,TS val 1 ecr 2], length 1448`."""
    found = re.match(r"Flags \[([SFPRUEWA.e]+|none)\]", text)
    if found is None:
        return None
    letters = found[1].replace("none", "").replace("e", "")
    flags = sum(_LETTERS[letter] for letter in set(letters)) | (ACK if "." in letters else 0)
    length = _number(r"\blength (\d+)", text) or 0
    fields = _common(text, flags)
    numbers = _NUMBERS.search(text)
    if numbers is not None and numbers[1] is not None:
        fields["seq"] = int(numbers[1])
    fields["length"] = length
    return fields


def old_tcpdump(text: str) -> Fields | None:
    """`P 1:513(512) ack 1 win 4608 <mss 1460,nop,wscale 0> (DF) [tos 0x8]`."""
    fragment = _FRAGMENT.search(text)
    found = re.match(r"([SFPRUWE]+|\.)(?= |$)", text)
    if found is None:
        if fragment is None:
            return None
        return _with_ip({"fragment": _fragment(fragment)}, text)
    flags = sum(_LETTERS[letter] for letter in set(found[1]))
    if re.search(r"\back \d", text) or not flags & (SYN | RST):
        flags |= ACK
    fields = _common(text, flags)
    numbers = _NUMBERS.search(text)
    if numbers is not None and numbers[3] is not None:
        fields["seq"], fields["length"] = int(numbers[3]), int(numbers[5])
    if fragment is not None:
        fields["fragment"] = _fragment(fragment)
    return _with_ip(fields, text)


def orchestra(text: str) -> Fields | None:
    """`1804412929:16512002 win 4096 datasz 0 ACK`: sequence and acknowledgment."""
    found = re.match(r"(\d+):(\d+) +win (\d+) +datasz (\d+) +([A-Z ]+)$", text)
    if found is None:
        return None
    words = found[5].split()
    flags = sum(bit for name, bit in FLAGS.items() if name in words)
    fields: Fields = {"flags": flags, "seq": int(found[1]), "window": int(found[3])}
    if flags & ACK:
        fields["ack"] = int(found[2])
    if flags & SYN:  # the size is that of its options, of which nothing else is told
        fields["options"] = bytes([NOP]) * min(int(found[4]), 40)
    else:
        fields["length"] = int(found[4])
    return fields


def analyser(text: str) -> Fields | None:
    """`[DF] A 8cde:9292(5b4) ack: 1c2 win: 8000 <mss: 5b4>`: all numbers are hexadecimal."""
    found = re.match(r"(\[DF\] )?([SFPRUA]+)(?= |$)", text)
    if found is None or not ("A" in found[2] or re.search(r"\b(?:ack|win): ", text)):
        return None
    flags = sum(_LETTERS[letter] for letter in set(found[2]))
    fields: Fields = {"flags": flags, "dont_fragment": found[1] is not None}
    numbers = re.search(r"\b([0-9a-f]+):[0-9a-f]+\(([0-9a-f]+)\)", text)
    if numbers is not None:
        fields["seq"], fields["length"] = int(numbers[1], 16), int(numbers[2], 16)
    ack = re.search(r"\back: ([0-9a-f]+)", text)
    if ack is not None and flags & ACK:
        fields["ack"] = int(ack[1], 16)
    window = re.search(r"\bwin(?:: |dow = )([0-9a-f]+)", text)
    if window is not None:
        fields["window"] = int(window[1], 16)
    mss = re.search(r"<mss: ?([0-9a-f]+)>", text)
    if mss is not None:
        fields["options"] = struct.pack("!BBH", MSS, 4, int(mss[1], 16) & 0xFFFF)
    return fields


def snoop(text: str) -> Fields | None:
    """`D=80 S=59500 Fin Ack=1 Seq=596 Len=0 Win=8760`; ports are fields of the result."""
    found = re.match(r"(?:TCP )?D=(\d+) S=(\d+) ", text)
    if found is None:
        return None
    words = {"Syn": SYN, "Fin": FIN, "Rst": RST, "Push": PSH}
    flags = sum(bit for word, bit in words.items() if re.search(rf"\b{word}\b", text))
    ack = _number(r"\bAck=(\d+)", text)
    if ack is not None or not flags & (SYN | RST):
        flags |= ACK
    return {
        "flags": flags,
        "seq": _number(r"\bSeq=(\d+)", text),
        "ack": ack,
        "length": _number(r"\bLen=(\d+)", text) or 0,
        "window": _number(r"\bWin=(\d+)", text),
        "ports": (found[2], found[1]),
    }


NOTATIONS: tuple[Callable[[str], Fields | None], ...] = (
    tcpdump, snoop, orchestra, analyser, old_tcpdump,
)  # fmt: skip


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return None if found is None else int(found[1])


def _common(text: str, flags: int) -> Fields:
    """What tcpdump has always printed alike."""
    listed = _OPTIONS.search(text)
    options = "" if listed is None else listed[1] or listed[2] or ""
    ack = _number(r"\back (\d+)", text)
    return {
        "flags": flags,
        "ack": ack if flags & ACK else None,
        "window": _number(r"\bwin (\d+)", text),
        "options": encode_options(options),
        "sack": tuple((int(one[1]), int(one[2])) for one in _SACK.finditer(options)),
    }


def encode_options(text: str) -> bytes:
    """The options that tcpdump lists; SACK blocks are left out, unknown ones too."""
    encoded = b""
    for option in text.split(","):
        word = option.strip()
        if found := re.fullmatch(r"mss (\d+)", word):
            encoded += struct.pack("!BBH", MSS, 4, int(found[1]) & 0xFFFF)
        elif found := re.fullmatch(r"wscale (\d+)", word):
            encoded += bytes((WINDOW_SCALE, 3, int(found[1]) & 0xFF))
        elif word == "sackOK":
            encoded += bytes((SACK_PERMITTED, 2))
        elif found := _TIMESTAMPS.fullmatch(word):
            stamps = int(found[1]) & _U32, int(found[2]) & _U32
            encoded += struct.pack("!BBII", TIMESTAMPS, 10, *stamps)
        elif word.startswith("timestamp"):  # tcpdump did not capture its values
            encoded += bytes([NOP]) * 10
        elif found := re.fullmatch(r"tfo +(?:cookiereq|cookie ((?:[0-9a-f]{2})+))", word):
            cookie = bytes.fromhex(found[1] or "")
            encoded += bytes((FAST_OPEN, 2 + len(cookie))) + cookie
        elif word == "nop":
            encoded += bytes([NOP])
    return encoded


def _fragment(found: re.Match[str]) -> Piece:
    return Piece(int(found[1]) & 0xFFFF, int(found[2]), int(found[3]), found[4] == "+")


def _with_ip(fields: Fields, text: str) -> Fields:
    """What is told of the IP header: `(DF) (ttl 62, id 20912, optlen=8 LSRR{B#} NOP)`."""
    fields["dont_fragment"] = "(DF)" in text
    fields["ttl"] = (_number(r"\bttl (\d+)", text) or 64) & 0xFF
    fields["identification"] = (_number(r"\bid (\d+)", text) or 0) & 0xFFFF
    length = min(_number(r"optlen=(\d+)", text) or 0, 40) & ~3
    if length >= 8 and "LSRR{" in text:  # one address, which is not told
        fields["ip_options"] = bytes((_LOOSE_ROUTE, 7, 8)).ljust(7, b"\0").ljust(length, b"\x01")
    else:
        fields["ip_options"] = bytes([1]) * length
    return fields
