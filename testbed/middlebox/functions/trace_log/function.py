"""The log of a service card: what happens to the box and to handshakes, in files that rotate."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
import re2

from testbed.errors import LabError
from testbed.middlebox import (
    PASS,
    Box,
    Function,
    Verdict,
    function,
)
from testbed.middlebox.functions.trace_log.files import (
    DirectoryStore,
    MemoryStore,
    RotatingLog,
    Store,
)
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.ip import TCP
from testbed.wire.packet import Packet

_LONGEST_LINE: Final = 1000  # characters

Flag: TypeAlias = Literal[
    "all",
    "command-queued",
    "config",
    "handshake",
    "init",
    "interfaces",
    "mib",
    "removed-client",
    "show",
]
FileSize: TypeAlias = Annotated[int, msgspec.Meta(ge=10_000, le=1 << 30, extra={"unit": "size"})]


@function("trace-log")
class TraceLog(Function):
    """Writes down what happens; packets pass untouched."""

    protocols = frozenset({TCP})
    keeps_log = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What is logged, and where. All can be set while traffic runs; with another `file` or
        `world_readable` the log begins anew.

        file: its name, in the directory of the lab's captures; full files get `.0`, `.1` and so
        on behind it.
        files: full files that are kept, 2 to 1000.
        size: of a file, in bytes, 10 kB to 1 GB.
        match: a regular expression in the syntax of RE2, which takes time in proportion to the
        line and knows no back-references; only lines in which it is found are logged. None for all.
        world_readable: whether everybody may read the files; otherwise only their owner.
        flags: what is traced beside the important events: `command-queued`, `config`,
        `handshake`, `init`, `interfaces`, `mib` (counters asked for), `removed-client`
        (connections that end), `show` (what else was asked for), or `all`.
        """

        file: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")] = (
            "serviced"
        )
        files: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 3
        size: FileSize = 128 << 10
        match: Annotated[str, msgspec.Meta(max_length=200)] | None = None
        world_readable: bool = False
        flags: tuple[Flag, ...] = ()

        def __post_init__(self) -> None:
            _pattern(self.match)

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._match = _pattern(options.match)
        self._log = self._open(options)

    def _open(self, options: Options) -> RotatingLog:
        directory = self.box.log_directory
        store: Store = MemoryStore()
        if directory is not None:
            mode = 0o644 if options.world_readable else 0o600
            try:
                store = DirectoryStore(directory, options.file, mode)
            except OSError as error:
                raise LabError(
                    f"the log '{options.file}' cannot be written: {error.strerror}; give another "
                    "name, or a directory for captures that is yours"
                ) from error
        return RotatingLog(store, options.size, options.files)

    def reconfigure(self, options: Options) -> None:
        old = self.options
        if (old.file, old.world_readable) != (options.file, options.world_readable):
            closing, self._log = self._log, self._open(options)
            closing.close()
        self._log.size, self._log.files = options.size, options.files
        self._match = _pattern(options.match)
        self.options = options

    def packet(self, packet: Packet) -> Verdict:
        flags = packet.flags
        if flags & (SYN | RST | FIN):
            what = _ENDS.get(flags & (RST | FIN)) or ("SYN ACK" if flags & ACK else "SYN")
            if flags & (RST | FIN):
                self.note("removed-client", f"{what} {_flow(packet)}")
            else:
                self.note("handshake", f"{what} {_flow(packet)}")
        return PASS

    def note(self, flag: str, text: str, important: bool = False) -> None:
        flags = self.options.flags
        if not self.enabled or not (important or flag in flags or "all" in flags):
            return
        stamp = datetime.now(UTC).isoformat(timespec="microseconds")
        clean = "".join(one if one.isprintable() else "?" for one in text[:_LONGEST_LINE])
        line = f"{stamp} {flag}: {clean}"
        if self._match.search(line) is None:
            self.counters["lines-not-matched"] += 1
            return
        try:
            self._log.write(line)
        except OSError:  # a full disk must not stop the traffic
            self.counters["lines-lost"] += 1
        else:
            self.counters["lines"] += 1

    def log_lines(self, last: int) -> list[str]:
        return self._log.last(last)


def _pattern(match: str | None) -> Any:
    """The expression, compiled; whatever it is, it cannot stall the box. Raises ValueError."""
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        return re2.compile(match or "", quiet)
    except re2.error as error:
        (why,) = error.args
        raise ValueError(
            f"match '{match}' is no regular expression of RE2: {why.decode()}"
        ) from None


_ENDS: Final = {RST: "RST", FIN: "FIN", RST | FIN: "RST FIN"}


def _flow(packet: Packet) -> str:
    size = 4 if packet.version == 4 else 16
    key = packet.key
    source, destination = (ipaddress.ip_address(key[at : at + size]) for at in (0, size))
    ports = (int.from_bytes(key[at : at + 2], "big") for at in (2 * size, 2 * size + 2))
    return "{} port {} to {} port {}, from {}".format(
        *(word for pair in zip((source, destination), ports, strict=True) for word in pair),
        packet.side.name.lower(),
    )
