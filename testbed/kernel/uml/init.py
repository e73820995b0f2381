"""The first process inside User-Mode Linux: prepares the system, runs one command, powers off.

It is run by path with `python -I -S`, before there is a /proc, so it imports nothing of this
project. The root is the host's by hostfs, read-only, under a tmpfs overlay; folders named as
writable are mounted through. Its words go out by serial lines: /dev/tty1 and /dev/tty2 carry the
command's output and errors, /dev/tty3 the messages `ready`, `remains JSON` and `status N`.
Ctrl-Alt-Del, sent by the management console, asks for the command's stacks.
Source: Documentation/virt/uml/user_mode_linux_howto_v2.rst, pivot_root(2), finit_module(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import sys
import termios
import threading
import tty
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_FINIT_MODULE = 313  # on x86-64, the only machine that User-Mode Linux runs on here
_SYS_PIVOT_ROOT = 155
_MNT_DETACH = 2
_POWER_OFF = 0x4321FEDC
_CTRL_ALT_DEL_IS_A_SIGNAL = 0
# By the virtual clock all processes run in the order in which they become ready, and their sleeps
# have no timer slack (SCHED_FIFO, sched(7)). Only this one comes before the others.
_OWN_PRIORITY, _PRIORITY = 2, 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_TIOCSWINSZ = 0x5414
# What is lost is listed as far as so many files; caches are made again by themselves.
_MOST_LOST = 100
_CACHES = frozenset({"__pycache__", ".cache"})
_WORKSHOP = "/tmp"  # exists on every Linux; covered by a tmpfs while the new root is made


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, options: str = "", flags: int = 0) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    words = [word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, flags, options.encode()), f"mount {kind} on {target}")


def _load(module: str) -> None:
    fd = os.open(module, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syscall(_SYS_FINIT_MODULE, fd, b"", 0), f"load {module}")
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(fd)


def _make_root(writable: list[str]) -> int:
    """Mount the overlay with everything in it, and move there; its upper layer, opened."""
    _mount("tmpfs", _WORKSHOP, "tmpfs")
    root = f"{_WORKSHOP}/root"
    for name in ("upper", "work", "root"):
        Path(_WORKSHOP, name).mkdir()
    upper = os.open(f"{_WORKSHOP}/upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    layers = f"lowerdir=/,upperdir={_WORKSHOP}/upper,workdir={_WORKSHOP}/work"
    _mount("overlay", root, "overlay", layers)
    _mount("proc", f"{root}/proc", "proc")
    _mount("sysfs", f"{root}/sys", "sysfs")
    _mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2")
    _mount("devtmpfs", f"{root}/dev", "devtmpfs")
    _mount("devpts", f"{root}/dev/pts", "devpts")
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", "mode=1777")
    _mount("tmpfs", f"{root}/run", "tmpfs", "mode=755")
    for folder in writable:
        _mount("hostfs", root + folder, "hostfs", folder)
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "unmount the old root")
    os.chdir("/")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        with contextlib.suppress(FileExistsError):
            Path("/dev", name).symlink_to(f"/proc/self/fd{target}")
    return upper


def _lost(upper: int) -> list[str]:
    """The files, up to some number, that were written or changed in the overlay alone."""
    found: list[str] = []
    for folder, folders, files, handle in os.fwalk(".", dir_fd=upper):
        folders[:] = sorted(set(folders) - _CACHES)
        for name in sorted(files):
            if stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                found.append(os.path.normpath(f"/{folder}/{name}"))
                if len(found) == _MOST_LOST:
                    return found
    return found


def _unroutable() -> int:
    """How often something outside was asked for from beside all labs: there is no way there.

    Source: IPSTATS_MIB_OUTNOROUTES of /proc/net/snmp and snmp6, which refused connects count too.
    """
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines()[:2])
    counted = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        name, value = line.split()
        counted += int(value) if name == "Ip6OutNoRoutes" else 0
    return counted


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", _IFF_UP)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, request)


def _open_line(number: int) -> int:
    """A serial line that passes bytes as they are."""
    fd = os.open(f"/dev/tty{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(fd)
    return fd


def _pump(source: int, sink: int) -> None:
    while data := os.read(source, 4096):
        while data:
            data = data[os.write(sink, data) :]
    os.close(source)


class _Streams:
    """What the command gets as its output and errors: the lines, or pipes that lead to them.

    A command that writes to a terminal outside must find one inside, and no other.
    """

    def __init__(self, terminal: list[int] | None) -> None:
        self._lines = [_open_line(1), _open_line(2)]
        self._pumps: list[threading.Thread] = []
        self.ends = list(self._lines)
        if terminal is not None:
            size = struct.pack("HHHH", *terminal, 0, 0)
            for line in self._lines:
                fcntl.ioctl(line, _TIOCSWINSZ, size)
            return
        for index, line in enumerate(self._lines):
            read, self.ends[index] = os.pipe2(os.O_CLOEXEC)
            self._pumps.append(threading.Thread(target=_pump, args=(read, line)))
        for pump in self._pumps:
            pump.start()

    def close(self) -> None:
        """Return when every byte is out."""
        for end in self.ends:
            if end not in self._lines:
                os.close(end)
        for pump in self._pumps:
            pump.join()
        for line in self._lines:
            termios.tcdrain(line)


def _run(spec: dict[str, Any], streams: _Streams) -> int:
    """Run the command to its end and return its status, as a shell would give it."""
    argv, environment = spec["argv"], spec["environment"]
    os.chdir(spec["folder"])
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    turns: dict[str, Any] = (
        {"scheduler": (os.SCHED_FIFO, os.sched_param(_PRIORITY))} if spec["exact"] else {}
    )
    descriptors = ((nothing, 0), (streams.ends[0], 1), (streams.ends[1], 2))
    try:
        child = os.posix_spawnp(
            argv[0],
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in descriptors],
            setsid=True,
            **turns,
        )
    except OSError as error:
        os.write(streams.ends[1], f"{argv[0]}: {error.strerror}\n".encode())
        return 127
    # SIGABRT: before it ends the command Python's faulthandler shows all stacks.
    signal.signal(signal.SIGINT, lambda *_: os.kill(child, signal.SIGABRT))
    while True:
        ended, raw = os.wait()  # orphans end here, too
        if ended == child:
            break
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # nobody else holds the pipes then
    status = os.waitstatus_to_exitcode(raw)
    return status if status >= 0 else 128 - status


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    _libc.reboot(_CTRL_ALT_DEL_IS_A_SIGNAL)
    if spec["exact"]:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_OWN_PRIORITY))
    for module in spec["modules"]:
        _load(module)
    upper = _make_root(spec["writable"])
    _loopback_up()
    socket.sethostname("uml")
    report = _open_line(3)
    os.write(report, b"ready\n")
    streams = _Streams(spec["terminal"])
    status = _run(spec, streams)
    streams.close()
    remains = {"lost": _lost(upper), "unroutable": _unroutable()}
    os.write(report, f"remains {json.dumps(remains)}\n".encode())
    os.sync()
    os.write(report, f"status {status}\n".encode())
    termios.tcdrain(report)


if __name__ == "__main__":
    try:
        main()
    finally:
        _libc.reboot(ctypes.c_uint(_POWER_OFF))
