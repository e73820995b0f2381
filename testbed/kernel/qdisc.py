"""Queueing disciplines: which of them this kernel has."""

from __future__ import annotations

import errno

from pyroute2.netlink.rtnl.tcmsg import tcmsg

from testbed.errors import KernelError
from testbed.kernel.netlink import NLM_F_CREATE, NLM_F_REPLACE, Netlink, Request, encode

_RTM_NEWQDISC = 36
_TC_H_ROOT = 0xFFFFFFFF


def is_available(netlink: Netlink, index: int, kind: str) -> bool:
    """Whether the kernel has (or could load) the qdisc `kind`, told by putting it on an interface.

    It is asked for without options: a kernel that has it and wants some says something else than
    that it does not know it. Raises `PrivilegeError` where nobody may ask.
    """
    message = tcmsg()
    message["index"] = index
    message["parent"] = _TC_H_ROOT
    message["attrs"] = [["TCA_KIND", kind]]
    data = encode(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, message)
    asked = Request(data, f"add the qdisc {kind}")
    try:
        netlink.execute([asked])
    except KernelError as error:
        if error.number in (errno.EPERM, errno.EACCES):
            raise
        return error.number != errno.ENOENT
    return True
