"""Becomes a program inside a container, confined as the container's first process is.

Started in the container's pid and network namespaces, it joins the rest: control groups, the
other namespaces, user and capabilities; then it executes the program. The seccomp filter and
the security module's profile of the container are the one thing that it does not take over.

Run as a script, without the rest of the project. Its argument is the number of a descriptor with
the order (confinement.py), as JSON. What goes wrong is told on a descriptor that the order names,
which is closed when the program is executed.

Sources: setns(2), capabilities(7), cgroups(7), the reference of Dockerfile (USER).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sys
import termios
import warnings  # noqa: F401  (os.execvpe imports it, when its file can no longer be reached)
from pathlib import Path
from typing import Any

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_PR_CAPBSET_READ = 23
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    result = int(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"prctl {option}")
    return result


def _setns(namespace: int) -> None:
    if _libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "namespace")


def _limit_capabilities(mask: int) -> None:
    """Let no program from now on have others."""
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    for number in range(64):
        if mask >> number & 1:
            continue
        try:
            if _prctl(_PR_CAPBSET_READ, number):
                _prctl(_PR_CAPBSET_DROP, number)
        except OSError:
            return  # the kernel has no more


def _rows(path: str) -> list[list[str]]:
    try:
        return [line.split(":") for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        return []


def _user(words: str) -> tuple[int, int, list[int], str]:
    """User, group, further groups and home folder, by names or numbers: USER[:GROUP]."""
    name, _, group = words.partition(":")
    name = name or "0"
    known = next((row for row in _rows("/etc/passwd") if name in (row[0], row[2])), None)
    if known is None and not name.isdigit():
        raise OSError(0, "no such user in the container", name)
    uid = int(known[2]) if known else int(name)
    gid = int(known[3]) if known else 0
    login = known[0] if known else name
    groups = _rows("/etc/group")
    if group:
        found = next((row for row in groups if group in (row[0], row[2])), None)
        if found is None and not group.isdigit():
            raise OSError(0, "no such group in the container", group)
        gid = int(found[2]) if found else int(group)
    more = [int(row[2]) for row in groups if len(row) > 3 and login in row[3].split(",")]
    return uid, gid, more, known[5] if known else "/"


def _enter(order: dict[str, Any]) -> dict[str, str]:
    """Become one of the container's processes; its environment."""
    groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in order["groups"]]
    for group in groups:
        os.write(group, b"0")
    for namespace in order["joined"]:
        _setns(namespace)
        os.close(namespace)
    os.chdir(order["folder"])
    uid, gid, more, home = _user(order["user"])
    _limit_capabilities(order["capabilities"])
    os.setgroups(more or [gid])
    os.setgid(gid)
    os.setuid(uid)
    if order["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # as terminal_of_session.py does
    if order["no_new_privileges"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return {"HOME": home, **order["environment"]}


def main() -> None:
    source = int(sys.argv[1])
    with open(source, "rb") as file:
        order = json.load(file)
    told = order["told"]
    os.set_inheritable(told, False)
    doing = "entering the container"
    try:
        environment = _enter(order)
        doing = "executing"
        os.execvpe(order["argv"][0], order["argv"], environment)
    except OSError as error:
        words = {
            "doing": doing,
            "number": error.errno or 0,
            "text": f"{error.strerror}{f': {error.filename}' if error.filename else ''}",
        }
        os.write(told, json.dumps(words).encode())
        sys.exit(127)


if __name__ == "__main__":
    main()
