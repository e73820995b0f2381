"""The options of a setup proxy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from testbed.middlebox import (
    Count,
    Duration,
)
from testbed.middlebox.functions.setup_proxy.opening import ANSWER_WINDOW


class ProxyOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What kind of proxy it is. All can be set while traffic runs.

    handshake_data: what happens to payload on the segment that ends the client's handshake;
    `drop` is the bug, `hold` keeps it until the server has answered.
    early_data: the same for what the client sends after that segment and before the server
    has answered.
    opening: whether the server is called when the client's SYN comes (`simultaneous`) or when
    its handshake is complete (`serial`).
    cookies: whether nothing is remembered of a client until its handshake is complete: what is
    needed comes back with the acknowledgement of a SYN cookie (RFC 4987 section 3.6). The opening
    is serial then, whatever `opening` says.
    bad_cookie: whether an acknowledgement with a wrong or stale cookie is dropped, or answered
    with a `reset`, as by a Linux listener.
    answer_window: the window of the answer to the client's SYN, in bytes. With 0 nothing can be
    sent until the server has answered, when a window update follows, as from the kernel's
    SYNPROXY (net/netfilter/nf_synproxy_core.c), whose opening is serial.
    half_open_timeout: seconds that both handshakes together may take.
    on_timeout: whether both sides are reset then, or left alone (`silent`).
    mss: the largest MSS offered to either side, further bounded by the box's MTU; None for
    that bound alone.
    window_scale: the scale offered to the client, `mirror` for the client's own, `none` for no
    scaling. Windows are translated where the server's differs.
    sack, timestamps: whether these options are agreed to. The client is promised what only the
    server can keep: without SACK there, the client waits for time-outs where it should
    retransmit fast, and `sack: false` is the cure.
    half_open_limit, connection_limit: connections remembered while opening and after; beyond
    that the least recently used one is forgotten. With cookies, connections from inside are
    remembered too, as many again.
    idle_timeout: seconds after which a silent connection is forgotten (RFC 5382 REQ-5).
    """

    handshake_data: Literal["drop", "hold"] = "hold"
    early_data: Literal["drop", "hold"] = "hold"
    opening: Literal["simultaneous", "serial"] = "simultaneous"
    cookies: bool = False
    bad_cookie: Literal["drop", "reset"] = "drop"
    answer_window: Annotated[int, msgspec.Meta(ge=0, le=ANSWER_WINDOW)] = ANSWER_WINDOW
    half_open_timeout: Duration = 30.0
    on_timeout: Literal["reset", "silent"] = "reset"
    mss: Annotated[int, msgspec.Meta(ge=88, le=65495)] | None = None
    window_scale: Annotated[int, msgspec.Meta(ge=0, le=14)] | Literal["mirror", "none"] = "mirror"
    sack: bool = True
    timestamps: bool = True
    half_open_limit: Count = 16384
    connection_limit: Count = 65536
    idle_timeout: Duration = 7440.0
