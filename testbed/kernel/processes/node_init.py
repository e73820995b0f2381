"""The first process of a node's pid namespace: prepares what programs in the node see.

They see the node's processes in /proc, its interfaces in /sys, the names of all nodes, and no
resolver of the host. What the kernel does not let be mounted (in a container whose /proc is
masked, user namespaces may mount no other) stays as it was.

Run as a script, without the rest of the project. Standard input: texts with a length before each,
for /etc/hosts, /etc/resolv.conf and /etc/gai.conf. Standard output: READY when all is prepared. It
then stays until its standard input ends, so that its namespaces can be opened; the first process of
the pid namespace stays until that is killed, and collects orphans.

Sources: mount_namespaces(7), pid_namespaces(7), nsswitch.conf(5).
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

READY = b"."
_FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/gai.conf")
_CLONE_NEWNS, _CLONE_NEWPID = 0x20000, 0x20000000
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_MS_QUIET = 2 | 4 | 8  # no set-user-ID, no devices, no programs
_MNT_DETACH = 2
_PR_SET_NAME = 15
# Any folder that is there: the files are put into a file system that covers it for a moment.
_SHELF = "/tmp"

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int) -> bool:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    return int(_libc.mount(*words, ctypes.c_ulong(flags), None)) == 0


def _put_files(files: dict[str, str]) -> None:
    """Cover files with others, in this mount namespace only."""
    if not _mount("tmpfs", _SHELF, "tmpfs", _MS_QUIET):
        return
    for number, (path, text) in enumerate(files.items()):
        source = Path(_SHELF, str(number))
        source.write_text(text)
        source.chmod(0o644)
        _mount(str(source), path, None, _MS_BIND)  # one that is not there is not covered
    _libc.umount2(_SHELF.encode(), _MNT_DETACH)


def _without_other_resolvers(configuration: str) -> str:
    """nsswitch.conf with host names from files and DNS alone: other services ask the host."""
    return re.sub(r"(?m)^hosts:.*$", "hosts: files dns", configuration)


def _prepare(files: dict[str, str]) -> None:
    switch = Path("/etc/nsswitch.conf")
    if switch.exists():
        files[str(switch)] = _without_other_resolvers(switch.read_text())
    _put_files(files)
    _mount("sysfs", "/sys", "sysfs", _MS_QUIET)
    _mount("proc", "/proc", "proc", _MS_QUIET)


def _stay() -> None:
    """Collect whoever loses its parent, until the kernel kills this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the first process does not heed
    for fd in (0, 1, 2):
        os.close(fd)
    while True:
        signal.pause()


def _read_text() -> str:
    length = int(sys.stdin.buffer.readline())
    return sys.stdin.buffer.read(length).decode()


def main() -> None:
    files = {path: _read_text() for path in _FILES}
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    # Mounts that the host makes later are seen; none of these is seen by the host.
    if not _mount("none", "/", None, _MS_REC | _MS_SLAVE):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    if os.fork() == 0:
        _libc.prctl(_PR_SET_NAME, b"node-init", 0, 0, 0)
        _prepare(files)
        os.write(1, READY)
        _stay()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
