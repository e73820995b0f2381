"""Frames that come in by one interface and go out by another, past every protocol.

Source: include/uapi/linux/pkt_cls.h (tc_u32_sel), linux/tc_act/tc_mirred.h, tc_gact.h.
"""

from __future__ import annotations

import socket
import struct

from testbed.kernel.netlink.socket import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    Netlink,
    Request,
    attribute,
    attributes,
    pack,
)

_RTM_NEWQDISC, _RTM_DELQDISC = 36, 37
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_TC_H_INGRESS = 0xFFFFFFF1
_INGRESS_HANDLE = 0xFFFF0000
_TCM = struct.Struct("=Bxxxi3I")
_KIND, _OPTIONS = 1, 2
_U32_SEL, _U32_ACT = 5, 7
_ACT_KIND, _ACT_OPTIONS, _ACT_STATS = 1, 2, 4
_PARAMETERS = 2  # TCA_MIRRED_PARMS and TCA_GACT_PARMS
_STATS_BASIC, _STATS_PKT64 = 1, 8
_SHOT, _STOLEN = 2, 4
_EGRESS_REDIRECT = 1
_ETH_P_ALL = 3
_TERMINAL = 1
# A selector with one key whose mask is 0: everything matches.
_EVERYTHING = struct.pack("=BBBxHHhhI", _TERMINAL, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
_DROPPING, _REDIRECTING = 1, 2  # priorities: the lower one is asked first


def accept_filters(index: int) -> Request:
    """Make an interface ask filters about what comes in; before any of the others here."""
    body = _TCM.pack(0, index, _INGRESS_HANDLE, _TC_H_INGRESS, 0)
    body += attribute(_KIND, b"ingress\0")
    data = pack(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)
    return Request(data, "put filters on an interface")


def accept_no_filters(index: int) -> Request:
    """Take all filters away."""
    body = _TCM.pack(0, index, 0, _TC_H_INGRESS, 0)
    return Request(pack(_RTM_DELQDISC, 0, body), "take the filters off an interface")


def redirect(index: int, target: int) -> Request:
    """Send everything that comes in by the interface `index` out by `target`."""
    parameters = struct.pack("=2I4iI", 0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, target)
    return _filter(index, _REDIRECTING, b"mirred", parameters)


def drop(index: int) -> Request:
    """Drop everything that comes in by the interface, until `drop_no_more`."""
    return _filter(index, _DROPPING, b"gact", struct.pack("=2I3i", 0, 0, _SHOT, 0, 0))


def drop_no_more(index: int) -> Request:
    """End `drop`."""
    body = _TCM.pack(0, index, 0, _INGRESS_HANDLE, _priority(_DROPPING))
    return Request(pack(_RTM_DELTFILTER, 0, body), "let frames pass again")


def _filter(index: int, priority: int, action: bytes, parameters: bytes) -> Request:
    chosen = attribute(_ACT_KIND, action + b"\0")
    chosen += attribute(_ACT_OPTIONS, attribute(_PARAMETERS, parameters))
    options = attribute(_U32_SEL, _EVERYTHING) + attribute(_U32_ACT, attribute(1, chosen))
    body = _TCM.pack(0, index, 0, _INGRESS_HANDLE, _priority(priority))
    body += attribute(_KIND, b"u32\0") + attribute(_OPTIONS, options)
    data = pack(_RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body)
    return Request(data, f"add a filter with the action {action.decode()}")


def _priority(number: int) -> int:
    return number << 16 | socket.htons(_ETH_P_ALL)


def redirected(netlink: Netlink, index: int) -> int:
    """How many frames the interface has redirected."""
    question = pack(_RTM_GETTFILTER, NLM_F_DUMP, _TCM.pack(0, index, 0, _INGRESS_HANDLE, 0))
    return sum(_redirected(attributes(payload, _TCM.size)) for payload in netlink.dump(question))


def _redirected(told: dict[int, bytes]) -> int:
    actions = attributes(attributes(told.get(_OPTIONS, b"")).get(_U32_ACT, b""))
    for action in actions.values():
        given = attributes(action)
        if given[_ACT_KIND].startswith(b"mirred"):
            stats = attributes(given[_ACT_STATS])
            if _STATS_PKT64 in stats:
                return int(struct.unpack_from("=Q", stats[_STATS_PKT64])[0])
            return int(struct.unpack_from("=QI", stats[_STATS_BASIC])[1])
    return 0
