"""Runs a program that insists on dropping its groups, where the kernel does not let it.

In a user namespace made without privileges setgroups(2) is refused (user_namespaces(7)), and
tcpdump, started as root, ends itself on that. There are no groups to be dropped there, so a
seccomp filter lets the call do nothing and succeed. Run as a script, by any Python, without the
rest of the project:

    python ungrouped.py PROGRAM ARGUMENT...

Sources: seccomp(2), include/uapi/linux/seccomp.h, filter.h, audit.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets into struct seccomp_data
# machine: (AUDIT_ARCH_*, number of setgroups)
_SETGROUPS = {"x86_64": (0xC000003E, 116), "aarch64": (0xC00000B7, 159)}


def needed() -> bool:
    """Whether a program started by this process would be user 0 and may not set groups."""
    if os.geteuid() != 0:
        return False  # tcpdump has nothing to drop then
    try:
        return Path("/proc/self/setgroups").read_text().strip() == "deny"
    except FileNotFoundError:
        return False


def command(argv: list[str]) -> list[str]:
    """The command that runs `argv` here: itself, or with this script before it."""
    if not needed():
        return argv
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *argv]


def _filter(architecture: int, setgroups: int) -> bytes:
    """Instructions (code, jump if true, jump if false, operand) for struct sock_filter."""
    program = (
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 3, architecture),
        (_LOAD_WORD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 1, setgroups),
        (_RETURN, 0, 0, _RET_ERRNO),  # error 0: success
        (_RETURN, 0, 0, _RET_ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _let_setgroups_succeed() -> None:
    known = _SETGROUPS.get(os.uname().machine)
    if known is None:
        return
    instructions = _filter(*known)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    for option, argument, pointer in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program),
    ):
        third = zero if pointer is None else ctypes.c_char_p(pointer)
        if libc.prctl(option, ctypes.c_ulong(argument), third, zero, zero) != 0:
            raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _let_setgroups_succeed()
    os.execv(sys.argv[1], sys.argv[1:])
