"""TCP_INFO as a typed struct, and the settings that a connection would really get.

Source: include/uapi/linux/tcp.h (struct tcp_info), net/ipv4/tcp.c (tcp_get_info).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import msgspec

from testbed.errors import KernelError

_TCP_REPAIR = 19
_TCPI_OPT_SYN_DATA = 32
_DISCARD_PORT = 9

STATES = (
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)

# (field, struct code) in the order of the kernel's struct.
_FIELDS: tuple[tuple[str, str], ...] = (
    ("state", "B"),
    ("ca_state", "B"),
    ("retransmits", "B"),
    ("probes", "B"),
    ("backoff", "B"),
    ("options", "B"),
    ("wscale", "B"),
    ("flags", "B"),
    ("rto_us", "I"),
    ("ato_us", "I"),
    ("snd_mss", "I"),
    ("rcv_mss", "I"),
    ("unacked", "I"),
    ("sacked", "I"),
    ("lost", "I"),
    ("retrans", "I"),
    ("fackets", "I"),
    ("last_data_sent_ms", "I"),
    ("last_ack_sent_ms", "I"),
    ("last_data_recv_ms", "I"),
    ("last_ack_recv_ms", "I"),
    ("pmtu", "I"),
    ("rcv_ssthresh", "I"),
    ("rtt_us", "I"),
    ("rttvar_us", "I"),
    ("snd_ssthresh", "I"),
    ("snd_cwnd", "I"),
    ("advmss", "I"),
    ("reordering", "I"),
    ("rcv_rtt_us", "I"),
    ("rcv_space", "I"),
    ("total_retrans", "I"),
    ("pacing_rate", "Q"),
    ("max_pacing_rate", "Q"),
    ("bytes_acked", "Q"),
    ("bytes_received", "Q"),
    ("segs_out", "I"),
    ("segs_in", "I"),
    ("notsent_bytes", "I"),
    ("min_rtt_us", "I"),
    ("data_segs_in", "I"),
    ("data_segs_out", "I"),
    ("delivery_rate", "Q"),
    ("busy_time_us", "Q"),
    ("rwnd_limited_us", "Q"),
    ("sndbuf_limited_us", "Q"),
    ("delivered", "I"),
    ("delivered_ce", "I"),
    ("bytes_sent", "Q"),
    ("bytes_retrans", "Q"),
    ("dsack_dups", "I"),
    ("reord_seen", "I"),
    ("rcv_ooopack", "I"),
    ("snd_wnd", "I"),
)
_LAYOUT = struct.Struct("=" + "".join(code for _, code in _FIELDS))


class TcpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of one TCP connection; times in the unit of the name, windows in segments.

    Fields that an older kernel does not fill are 0.
    """

    state: int
    ca_state: int
    retransmits: int
    probes: int
    backoff: int
    options: int
    wscale: int
    flags: int
    rto_us: int
    ato_us: int
    snd_mss: int
    rcv_mss: int
    unacked: int
    sacked: int
    lost: int
    retrans: int
    fackets: int
    last_data_sent_ms: int
    last_ack_sent_ms: int
    last_data_recv_ms: int
    last_ack_recv_ms: int
    pmtu: int
    rcv_ssthresh: int
    rtt_us: int
    rttvar_us: int
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    reordering: int
    rcv_rtt_us: int
    rcv_space: int
    total_retrans: int
    pacing_rate: int
    max_pacing_rate: int
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    notsent_bytes: int
    min_rtt_us: int
    data_segs_in: int
    data_segs_out: int
    delivery_rate: int
    busy_time_us: int
    rwnd_limited_us: int
    sndbuf_limited_us: int
    delivered: int
    delivered_ce: int
    bytes_sent: int
    bytes_retrans: int
    dsack_dups: int
    reord_seen: int
    rcv_ooopack: int
    snd_wnd: int

    @property
    def state_name(self) -> str:
        return state_name(self.state)

    @property
    def syn_data_acknowledged(self) -> bool:
        """Whether data on the SYN was taken by the other side (TCP Fast Open)."""
        return bool(self.options & _TCPI_OPT_SYN_DATA)


def state_name(state: int) -> str:
    """The name of a TCP state; the number where this testbed knows none."""
    return STATES[state] if state < len(STATES) else str(state)


def tcp_info(sock: socket.socket) -> TcpInfo:
    """Read TCP_INFO of a TCP socket (tcp(7))."""
    return decode_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAYOUT.size))


def decode_tcp_info(data: bytes) -> TcpInfo:
    """What the kernel's struct holds; one of another kernel may be shorter, or longer."""
    values: dict[str, Any] = dict(
        zip(
            (name for name, _ in _FIELDS),
            _LAYOUT.unpack(data[: _LAYOUT.size].ljust(_LAYOUT.size, b"\0")),
            strict=True,
        )
    )
    return TcpInfo(**values)


def congestion_control(sock: socket.socket) -> str:
    """The congestion control that a TCP socket uses."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).split(b"\0")[0].decode()


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a new connection to some address starts with: the route's doing, read off a socket."""

    congestion_control: str
    initcwnd: int
    advmss: int


def route_settings(destination: str) -> RouteSettings:
    """The settings a connection to `destination` gets in the calling thread's namespace.

    A real socket is connected in repair mode (TCP_REPAIR), which initialises it from its route
    like any other but sends no packet. Raises `KernelError` where the kernel does not allow it.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            sock.connect((destination, _DISCARD_PORT))
        except OSError as error:
            hint = " (no route)" if error.errno == errno.ENETUNREACH else ""
            raise KernelError(
                f"The settings of connections to {destination} cannot be read back: "
                f"{os.strerror(error.errno or 0)}{hint}."
            ) from None
        info = tcp_info(sock)
        return RouteSettings(
            congestion_control=congestion_control(sock),
            initcwnd=info.snd_cwnd,
            advmss=info.advmss,
        )
