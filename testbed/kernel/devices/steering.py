"""Receive packet steering: which processors take in what a TUN or TAP device is written.

Without it the one who writes a packet does all the work that the kernel has with it, up to the
TCP of a receiver and its answer, within the write. With it the write ends where that work
begins, and other processors do it: packets of one flow on one of them, in their order. A lone
packet is some 30 us later, since a sleeping processor has to be woken up for it.

Which processors they are is settled when a device is made: changing it later takes CAP_NET_ADMIN
over the whole machine, which a lab in a user namespace does not have, and helper processes
give up. Who wants to choose packet by packet has two devices.

Nothing holds the writer back any more, and the kernel drops what the receivers' processors have no
room for: who writes has to look (`testbed.kernel.devices.backlog`), and to wait.

Source: Documentation/networking/scaling.rst, net/core/net-sysfs.c (store_rps_map),
net/core/sysctl_net_core.c (rps_default_mask_sysctl).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from testbed.kernel.devices.backlog import Backlog
from testbed.kernel.syscalls import mount_detached

DEFAULT_MASK = "/proc/sys/net/core/rps_default_mask"
"""Of devices to come, in the namespace of the thread that opens it; from Linux 6.3 on."""

_DEVICE_MASK = "class/net/{}/queues/rx-0/rps_cpus"
_GROUP = 32  # bits between two commas of a mask


class Opened(NamedTuple):
    """fd: of the device. unsteered: why the work is still the writer's, None where it is not."""

    fd: int
    unsteered: str | None


def open_steered(
    open_device: Callable[[str, int], int], name: str, index: int, cpus: Iterable[int]
) -> Opened:
    """Make a device in the calling thread's namespace whose packets are taken in by `cpus`.

    open_device: `tun.open_tun` or `tun.open_tap`, whose errors come through. Where the kernel
    does not steer, or does not tell how much waits for whom, the device is there all the same.
    """
    receivers = frozenset(cpus)
    try:
        Backlog(receivers).close()
    except OSError as error:
        return Opened(open_device(name, index), f"{error} (before Linux 5.10)")
    mask = sum(1 << cpu for cpu in receivers)
    with _by_default(mask) as refused:
        fd = open_device(name, index)
    if refused:
        # Older kernels; this way takes CAP_NET_ADMIN over the whole machine.
        refused = _steer(name, mask)
    return Opened(fd, refused or None)


@contextlib.contextmanager
def _by_default(mask: int) -> Iterator[str]:
    """Have devices that are made meanwhile steered; why that cannot be, or nothing."""
    try:
        before = _mask_of(Path(DEFAULT_MASK).read_text())
    except OSError as error:
        yield f"{DEFAULT_MASK} cannot be read: {os.strerror(error.errno or 0)}"
        return
    refused = _write_mask(DEFAULT_MASK, mask)
    try:
        yield refused
    finally:
        if not refused:
            _write_mask(DEFAULT_MASK, before)


def _steer(name: str, mask: int) -> str:
    """Steer a device that is there; why that cannot be, or nothing."""
    try:
        sysfs = mount_detached("sysfs")  # it shows the namespace of whoever mounts it
    except OSError as error:
        return f"/sys of a network namespace cannot be had: {os.strerror(error.errno or 0)}"
    try:
        return _write_mask(_DEVICE_MASK.format(name), mask, sysfs)
    finally:
        os.close(sysfs)


def _write_mask(path: str, mask: int, directory: int | None = None) -> str:
    """Set a mask of processors; why that cannot be, or nothing. The kernel may leave some out:
    those that it was told to keep free of such work (`isolcpus=`)."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, mask_text(mask).encode())
            text = os.pread(fd, 4096, 0).decode()
        finally:
            os.close(fd)
    except OSError as error:
        return f"{path} cannot be written: {os.strerror(error.errno or 0)}"
    found = _mask_of(text)
    if found & ~mask or (mask and not found):
        return f"{path} was set to {mask_text(mask)} but reads {text.strip()}"
    return ""


def mask_text(mask: int) -> str:
    """Hexadecimal, as the kernel reads it (lib/bitmap-str.c, bitmap_parse)."""
    groups = [f"{mask & 0xFFFFFFFF:08x}"]
    while mask := mask >> _GROUP:
        groups.insert(0, f"{mask & 0xFFFFFFFF:08x}")
    return ",".join(groups)


def _mask_of(text: str) -> int:
    return int(text.replace(",", ""), 16)
