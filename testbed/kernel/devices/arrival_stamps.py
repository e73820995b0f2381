"""When each frame came to a TAP interface, by the kernel's own clock.

Whoever reads a TAP sees a frame only once it has woken up, which can take 0.2 ms in a virtual
machine. A small BPF program, which the interface runs for every frame before it queues it, writes
the time into a ring that the reader has mapped: no system call, and not a word about the frame.

Source: include/uapi/linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst;
TUNSETFILTEREBPF in drivers/net/tun.c.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from testbed.kernel.clock import waits_are_exact

#: How many frames the ring remembers; a power of two.
REMEMBERED: Final = 1024
#: How many stamped frames may wait to be read while it is certain which stamp is whose. An
#: interface's queue must hold more, so that it cannot have dropped one of them.
MOST_BEHIND: Final = 768

_SYSTEM_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}.get(platform.machine())
_MAP_CREATE, _PROG_LOAD = 0, 5
_MAP_TYPE_ARRAY, _F_MMAPABLE = 2, 1 << 10
_PROG_TYPE_SOCKET_FILTER = 1
_ATTRIBUTES_SIZE = 128  # more than the kernel knows of: the rest is zeros
_TUNSETFILTEREBPF = 0x800454E1
_CLOCK_OFFSETS = Path("/proc/self/timens_offsets")

# The ring: the number of frames so far, then the times of the last ones. 64 bits each.
_CELL = 8
_VALUE_SIZE = _CELL * (1 + REMEMBERED)

# Instructions: operation code, registers, offset, immediate value.
_INSTRUCTION = struct.Struct("=BBhi")
_MOVE, _ADD_REGISTER, _ADD, _AND, _SHIFT_LEFT = 0xBF, 0x0F, 0x07, 0x57, 0x67
_LOAD_64, _STORE_64, _LOAD_32 = 0x79, 0x7B, 0x61
_LOAD_WIDE, _CALL, _EXIT = 0x18, 0x85, 0x95
_MAP_VALUE = 2  # BPF_PSEUDO_MAP_VALUE: the operand is a map, and means the address of its value
_KTIME_GET_NS = 5  # CLOCK_MONOTONIC

_libc = ctypes.CDLL(None, use_errno=True)


def stamp_arrivals(tap: int) -> int | None:
    """Make the kernel note when frames come to the TAP behind this descriptor, from the first on.

    To be called before the interface is up.

    A descriptor for `ArrivalStamps`, the caller's to close; the kernel's work ends with the
    interface. None where that cannot be had: no BPF in the kernel, or not for this user
    (capabilities(7): CAP_BPF), or a clock of this process's own (time_namespaces(7)).
    """
    if _SYSTEM_CALL is None or _clock_is_shifted():
        return None
    try:
        attributes = (_MAP_TYPE_ARRAY, 4, _VALUE_SIZE, 1, _F_MMAPABLE)
        ring = _bpf(_MAP_CREATE, struct.pack("=5I", *attributes))
    except OSError:
        return None
    try:
        program = _load(_program(ring))
        try:
            fcntl.ioctl(tap, _TUNSETFILTEREBPF, struct.pack("=i", program))
        finally:
            os.close(program)
    except OSError:
        os.close(ring)
        return None
    return ring


@contextlib.contextmanager
def stamped(tap_a: int, tap_b: int) -> Iterator[tuple[int, int] | None]:
    """What `stamp_arrivals` gives for the two ends of a link, closed in the end; both or None."""
    with contextlib.ExitStack() as stack:
        rings = []
        for tap in (tap_a, tap_b):
            ring = stamp_arrivals(tap)
            if ring is None:
                break
            stack.callback(os.close, ring)
            rings.append(ring)
        yield (rings[0], rings[1]) if len(rings) == 2 else None


class ArrivalStamps:
    """The times of the frames of one TAP, for the one who reads them all.

    Whose a stamp is can be told by counting alone. A frame that the interface drops has a stamp
    and is never read, and would make all that follow seem to have come too early; so counting
    begins anew whenever nothing is left to be read.

    ring: the descriptor from `stamp_arrivals`, which may be closed afterwards. Raises `OSError`
    or `ValueError` for any other.
    """

    def __init__(self, ring: int) -> None:
        mapped = mmap.mmap(ring, _VALUE_SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        self._cells = memoryview(mapped).cast("Q")
        self._next = 0
        self._certain = True

    @property
    def unread(self) -> int | None:
        """How many frames are left to be read, at least one.

        None where that is not certain, or more may come while they are read.
        """
        if not (self._certain and waits_are_exact()):
            return None
        return max(1, self._cells[0] - self._next)

    def of(self, frames: int, drained: bool) -> list[int] | None:
        """When the `frames` that have just been read came, in order: ns of the monotonic clock.

        None where that is not certain; never earlier than they came. drained: whether nothing
        was left to be read after them.
        """
        first, stamped = self._next, self._cells[0]
        last = self._next = first + frames
        # Frames are dropped where too many wait, and counted too soon where counting began anew
        # while one was on its way into the queue.
        certain = self._certain = self._certain and last <= stamped <= first + MOST_BEHIND
        if drained:
            self._next = stamped
            self._certain = True
        return self._slice(first, frames) if certain else None

    def _slice(self, first: int, frames: int) -> list[int]:
        begin = 1 + first % REMEMBERED
        end = begin + frames
        found = self._cells[begin:end].tolist()
        if end > 1 + REMEMBERED:
            found += self._cells[1 : end - REMEMBERED].tolist()
        return found


def _program(ring: int) -> bytes:
    """Store the time at the next place of the ring, count the frame, keep all of it."""

    def do(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
        return _INSTRUCTION.pack(code, to | source << 4, offset, value)

    context, cells, count = 6, 7, 9  # registers that survive a call
    now, place, scratch = 0, 1, 2
    return b"".join(
        (
            do(_MOVE, context, source=1),
            do(_CALL, value=_KTIME_GET_NS),
            do(_LOAD_WIDE, cells, source=_MAP_VALUE, value=ring),
            do(0),
            do(_LOAD_64, count, source=cells),
            do(_MOVE, place, source=count),
            do(_AND, place, value=REMEMBERED - 1),
            do(_SHIFT_LEFT, place, value=3),
            do(_MOVE, scratch, source=cells),
            do(_ADD_REGISTER, scratch, source=place),
            do(_STORE_64, scratch, source=now, offset=_CELL),
            do(_ADD, count, value=1),
            do(_STORE_64, cells, source=count),
            do(_LOAD_32, 0, source=context),  # __sk_buff.len
            do(_EXIT),
        )
    )


def _load(program: bytes) -> int:
    instructions, license_ = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"")
    return _bpf(
        _PROG_LOAD,
        struct.pack(
            "=IIQQ",
            _PROG_TYPE_SOCKET_FILTER,
            len(program) // _INSTRUCTION.size,
            ctypes.addressof(instructions),
            ctypes.addressof(license_),
        ),
    )


def _bpf(command: int, attributes: bytes) -> int:
    """The descriptor that bpf(2) gives."""
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_SIZE)
    fd: int = _libc.syscall(_SYSTEM_CALL, command, buffer, _ATTRIBUTES_SIZE)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf: {os.strerror(number)}")
    return fd


def _clock_is_shifted() -> bool:
    """Whether this process reads another monotonic clock than the kernel's own."""
    try:
        words = _CLOCK_OFFSETS.read_text().split()
    except OSError:
        return False  # a kernel without time namespaces
    offsets = dict(zip(words[::3], zip(words[1::3], words[2::3], strict=True), strict=True))
    return offsets.get("monotonic", ("0", "0")) != ("0", "0")
