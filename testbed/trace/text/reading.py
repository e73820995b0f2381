"""From the text of a log to its packets."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from testbed.trace.text.line import Name, TextLine
from testbed.trace.text.notations import NOTATIONS, Fields

_DAY = 86_400 * 10**9
_STAMP = re.compile(
    r"(?:(?P<date>\d{4}-\d\d-\d\d) )?(?P<h>\d\d):(?P<m>\d\d)[:.](?P<s>\d\d)\.(?P<f>\d{1,9})(?=\s)"
    r"|(?P<epoch>\d{1,10})\.(?P<ef>\d{1,9})(?=\s)"
)
# What may stand between time and hosts: an interface and its direction, link header, IP header.
_BEFORE_HOSTS = re.compile(
    r"(?:\S+\s+(?:In|Out|B|M|P)\s+)?"
    r"(?:[0-9a-f:]{17} (?:\([^)]*\) )?> [^,]*,.*?length \d+: )?"
    r"(?:IP6? (?P<ip>\([^>]*\) *)?)?"
)
_HOSTS = re.compile(r"(?P<source>[^\s>]+) -?> (?P<destination>\S+)\s*(?P<rest>.*)")
_HEXADECIMAL = re.compile(r"(?:0x[0-9a-f]{4}:)?((?:\s+|^)[0-9a-f]{2,4}(?=\s|$))+")
_LONGEST_PACKET = 20_000  # characters of one packet in a log
_LATEST = 10**9 << 32  # ns; what a record of a capture can tell
_LARGEST_PAYLOAD = 1 << 20  # bytes; some two of Linux's largest, with segmentation offload
_LARGEST_FIELDS = {"identification": 0xFFFF, "ttl": 0xFF, "length": _LARGEST_PAYLOAD}


def packets(text: str) -> Iterator[TextLine | str]:
    """Each packet in the order of the log, and each line that is none.

    Empty lines and those that begin with `#` are skipped.
    """
    day = 0
    last = None
    for joined, dump in _joined(text):
        line = _read(joined, dump)
        if line is None:
            yield joined
            continue
        if line.time is not None:
            if last is not None and line.time + day < last - _DAY // 2:
                day += _DAY  # past midnight, in a log without dates
            if line.time + day >= _LATEST:
                yield joined
                continue
            last = line.time + day
            if day:
                line = _at(line, last)
        yield line


def is_log(head: str) -> bool:
    """Whether one of the first lines of a text is a packet."""
    return any(isinstance(line, TextLine) for line in packets(head))


def _at(line: TextLine, time: int) -> TextLine:
    fields = {name: getattr(line, name) for name in line.__struct_fields__}
    return TextLine(**{**fields, "time": time})


def _joined(text: str) -> Iterator[tuple[str, str]]:
    """Each packet on one line, whatever it took in the log, and its bytes in hexadecimal."""
    packet, dump = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        indented = raw[0].isspace()
        if len(line) > _LONGEST_PACKET:
            line, indented = line[:_LONGEST_PACKET], False
        if packet and indented and _HEXADECIMAL.fullmatch(line):
            dump += " " + line.rpartition(": ")[2]
        elif packet and indented and not _begins(line, packet) and len(packet) < _LONGEST_PACKET:
            packet += " " + line
        else:
            if packet:
                yield packet, dump
            packet, dump = line, ""
    if packet:
        yield packet, dump


def _begins(line: str, packet: str) -> bool:
    """Whether an indented line is a packet of its own, not the rest of the one before."""
    if _STAMP.match(line):
        return True
    return _HOSTS.match(line) is not None and " > " in packet


def _read(text: str, dump: str) -> TextLine | None:
    stamp = _STAMP.match(text)
    rest = text[stamp.end() :].strip() if stamp else text
    before = _BEFORE_HOSTS.match(rest)
    assert before is not None  # every part of it may be missing
    hosts = _HOSTS.match(rest[before.end() :])
    if hosts is None:
        return None
    try:
        fields = _fields(hosts["rest"], before["ip"] or "")
    except ValueError:  # a number of thousands of digits
        return None
    if fields is None or not _fits(fields):
        return None
    ports = fields.pop("ports", ("", ""))
    digits = "".join(dump.split())
    bytes_known = bytes.fromhex(digits) if len(digits) % 2 == 0 else b""
    return TextLine(
        source=_name(hosts["source"], ports[0]),
        destination=_name(hosts["destination"].removesuffix(":"), ports[1]),
        time=_time(stamp),
        packet=bytes_known,
        **fields,
    )


def _fields(text: str, ip: str) -> Fields | None:
    """What the first notation that knows the text makes of it."""
    for notation in NOTATIONS:
        fields = notation(text)
        if fields is not None:
            return fields | (_verbose(ip) if ip else {})
    return None


def _fits(fields: Fields) -> bool:
    """Whether there can be such a packet."""
    piece = fields.get("fragment")
    small = piece is None or max(piece.size, piece.offset) <= 0xFFFF
    return small and all(fields.get(name, 0) <= most for name, most in _LARGEST_FIELDS.items())


def _verbose(text: str) -> dict[str, int | bool]:
    """What `tcpdump -v` tells of the IP header."""
    found = {
        name: int(match[1])
        for name, pattern in (("identification", r"\bid (\d+)"), ("ttl", r"\bttl (\d+)"))
        if (match := re.search(pattern, text))
    }
    return {**found, "dont_fragment": "[DF]" in text}


def _name(host: str, port: str) -> Name:
    """`10.0.0.1.80`, `client.1391`, `fe80::1.443`, `A`; the port may be told elsewhere."""
    name, dot, last = host.rpartition(".")
    return Name(host, port) if port or not dot else Name(name, last)


def _time(stamp: re.Match[str] | None) -> int | None:
    """ns since the epoch, or since midnight."""
    if stamp is None:
        return None
    if stamp["epoch"]:
        return int(stamp["epoch"]) * 10**9 + int(stamp["ef"].ljust(9, "0"))
    seconds = int(stamp["h"]) * 3600 + int(stamp["m"]) * 60 + int(stamp["s"])
    if stamp["date"]:
        with suppress(ValueError):  # the 31st of February
            seconds += max(0, timegm(datetime.fromisoformat(stamp["date"]).timetuple()))
    return seconds * 10**9 + int(stamp["f"].ljust(9, "0"))
