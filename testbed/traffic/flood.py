"""A flood of SYNs from forged addresses, as in an attack (RFC 4987 section 2)."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final

from testbed.errors import LabError
from testbed.lab import LabNode
from testbed.wire.craft import syn
from testbed.wire.options import HandshakeOptions

_SOURCES: Final = ipaddress.IPv4Network("198.18.0.0/15")  # RFC 2544: not on the Internet
_INTERVAL: Final = 0.002  # seconds between two bursts
_LARGEST_BURST: Final = 200
_OPTIONS: Final = HandshakeOptions(mss=1460, window_scale=7, sack=True, timestamps=(1, 0))


class SynFlood:
    """`rate` SYNs per second from `node` to an IPv4 address, while the `with` block lasts.

    Each comes from another address. sent: how many there were. What goes wrong is raised at the
    end of the block, as `LabError`, unless that raises itself.
    """

    def __init__(self, node: LabNode, address: str, port: int, *, rate: float) -> None:
        self.sent = 0
        self._node = node
        self._rate = rate
        self._address = address
        self._port = port
        self._stop = threading.Event()
        self._failure: OSError | None = None
        self._socket = node.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._thread = threading.Thread(target=self._run, name="testbed-flood", daemon=True)

    def __enter__(self) -> SynFlood:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        if error is None and self._failure is not None:
            raise LabError(
                f"The flood from '{self._node.name}' to {self._address} ended after {self.sent} "
                f"SYNs: {self._failure}."
            ) from self._failure

    def _run(self) -> None:
        """Send what is due, and no more than a burst when there was no time to."""
        last = time.monotonic()
        due = 0.0
        while not self._stop.wait(_INTERVAL):
            now = time.monotonic()
            due = min(due + self._rate * (now - last), _LARGEST_BURST)
            last = now
            try:
                while due >= 1:
                    self._socket.sendto(self._forged(), (self._address, 0))
                    self.sent += 1
                    due -= 1
            except OSError as failure:
                self._failure = failure
                return

    def _forged(self) -> bytes:
        source = _SOURCES[self.sent % _SOURCES.num_addresses]
        target = ipaddress.IPv4Address(self._address)
        ports = struct.pack("!HH", 1024 + self.sent % 60_000, self._port)
        key = source.packed + target.packed + ports
        return bytes(syn(key, seq=self.sent, window=65535, options=_OPTIONS))
