"""TUN and TAP devices: interfaces whose other end is a file descriptor.

Source: Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from testbed.errors import KernelError, PrivilegeError
from testbed.kernel.processes.userns import ANOTHER_KERNEL

DEVICE = Path("/dev/net/tun")

_TUNSETIFF = 0x400454CA
_TUNSETIFINDEX = 0x400454DA
_TUNSETCARRIER = 0x400454E2
_IFF_TUN = 0x0001
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


def open_tap(name: str, index: int) -> int:
    """Make a TAP interface in the calling thread's namespace; frames are whole Ethernet frames."""
    return _open(name, index, _IFF_TAP)


def open_tun(name: str, index: int) -> int:
    """Make a TUN interface in the calling thread's namespace; packets are whole IP packets."""
    return _open(name, index, _IFF_TUN)


def set_carrier(fd: int, carrier: bool) -> None:
    """Give the interface of a TUN or TAP descriptor a carrier, or none. Raises `KernelError`."""
    try:
        fcntl.ioctl(fd, _TUNSETCARRIER, struct.pack("i", carrier))
    except OSError as error:
        what = f"refused to change the carrier of an interface: {os.strerror(error.errno or 0)}"
        raise KernelError(f"The kernel {what}.") from None


def _open(name: str, index: int, kind: int) -> int:
    """A non-blocking descriptor; the interface vanishes when its last copy is closed.

    Raises `PrivilegeError` or `KernelError` with what to do where there is no usable device.
    """
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KernelError(
            f"{DEVICE} does not exist, and emulated links and middleboxes need it. "
            "Load the module (`modprobe tun`), or make the node: "
            f"`mkdir -p {DEVICE.parent} && mknod {DEVICE} c 10 200`. {ANOTHER_KERNEL}."
        ) from None
    except PermissionError:
        mode = DEVICE.stat().st_mode & 0o777
        raise PrivilegeError(
            f"{DEVICE} (mode {mode:04o}) may not be opened by this user, and emulated links and "
            f"middleboxes need it. {ANOTHER_KERNEL}. Or ask the administrator for "
            f"`chmod 0666 {DEVICE}` (the mode that udev gives it), or run as root."
        ) from None
    try:
        fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("I", index))
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), kind | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        what = f"The kernel refused to make the interface {name}: {os.strerror(error.errno or 0)}."
        if error.errno == errno.EPERM:
            raise PrivilegeError(what) from None
        raise KernelError(what) from None
    return fd
