"""A netlink socket inside a namespace: batches of requests, each acknowledged, and dumps.

Messages are pyroute2's; the transport is our own because pyroute2's sockets cost milliseconds
to open, and a lab opens one for every node. A batch is one system call whatever it holds, and a
socket may be used from any thread once it has been opened inside its namespace.
Sources: include/uapi/linux/netlink.h, Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from testbed.errors import KernelError, PrivilegeError

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
_NLM_F_ECHO = 0x8
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1

_SOL_NETLINK = 270
_NLA_TYPE_MASK = 0x3FFF
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

_HEADER = struct.Struct("=IHHII")
_BATCH_BYTES = 16 << 10
_DATAGRAM_BYTES = 64 << 10  # the kernel never puts more than 32 KiB into one (af_netlink.c)


class Request(msgspec.Struct):
    """One encoded message; `purpose` completes the sentence "The kernel refused to ..."."""

    data: bytes
    purpose: str


def encode(kind: int, flags: int, message: Any) -> bytes:
    """Encode a pyroute2 message of type `kind` (RTM_*) with `flags` besides REQUEST."""
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.encode()
    return bytes(message.data)


class Netlink:
    """A netlink socket; make it inside the namespace it is to speak for.

    family: what it speaks of, NETLINK_ROUTE unless told otherwise.
    """

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._sock.setsockopt(_SOL_NETLINK, option, 1)
        self._sock.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def execute(self, requests: Sequence[Request]) -> None:
        """Carry out all requests in order.

        Raises `KernelError` for the first that the kernel refuses, with the kernel's own
        explanation (extended ACK) where it gives one; later ones may have been carried out.
        """
        batch: list[Request] = []
        size = 0
        for item in requests:
            if batch and size + len(item.data) > _BATCH_BYTES:
                self._execute_batch(batch)
                batch, size = [], 0
            batch.append(item)
            size += len(item.data)
        if batch:
            self._execute_batch(batch)

    def _execute_batch(self, batch: Sequence[Request]) -> None:
        # The kernel works through a batch in order and always tells of an error, so that only
        # the last message needs to be acknowledged.
        first, last = self._sequence + 1, self._sequence + len(batch)
        self._sequence = last
        messages = []
        for sequence, item in enumerate(batch, first):
            flags = NLM_F_ACK if sequence == last else 0
            messages.append(_renumber(item.data, flags, sequence))
        self._sock.send(b"".join(messages))
        refused: KernelError | None = None
        while True:
            for kind, flags, sequence, payload in self._receive():
                if kind != _NLMSG_ERROR or not first <= sequence <= last:
                    continue
                (code,) = struct.unpack_from("=i", payload)
                if code and refused is None:
                    refused = _refusal(batch[sequence - first].purpose, -code, flags, payload)
                if sequence != last:
                    continue
                if refused is not None:
                    raise refused
                return

    def dump(self, question: bytes) -> list[bytes]:
        """The payloads of all objects that an encoded dump request asks for, headers removed."""
        self._sequence += 1
        self._sock.send(_renumber(question, 0, self._sequence))
        found: list[bytes] = []
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", payload)
                    raise _refusal("list objects", -code, flags, payload)
                found.append(payload)

    def get(self, question: bytes) -> bytes:
        """The payload of the one object that an encoded request asks for, header removed."""
        self._sequence += 1
        # Traffic control tells nobody but its subscribers unless it is asked for an echo.
        self._sock.send(_renumber(question, NLM_F_ACK | _NLM_F_ECHO, self._sequence))
        found: bytes | None = None
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if kind != _NLMSG_ERROR:
                    found = payload
                    continue
                (code,) = struct.unpack_from("=i", payload)
                if code or found is None:
                    raise _refusal("tell of an object", -code, flags, payload)
                return found

    def ioctl(self, command: int, argument: bytes) -> None:
        """A network device ioctl in the socket's namespace (netdevice(7))."""
        fcntl.ioctl(self._sock, command, argument)

    def subscribe(self, group: int) -> None:
        """Be told of changes (RTNLGRP_*), for `wait_for_change`."""
        self._sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def wait_for_change(self, timeout: float) -> bool:
        """Whether something that was subscribed to changes within `timeout` seconds."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return False
        try:
            self._sock.recv(_DATAGRAM_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more changes than there was room to tell of
                raise
        return True

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, flags, sequence, payload) of every message in the next datagram."""
        data = self._sock.recv(_DATAGRAM_BYTES)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3


def _renumber(data: bytes, flags: int, sequence: int) -> bytes:
    """The message with more flags and its place in the conversation."""
    length, kind, given, _, port = _HEADER.unpack_from(data)
    return _HEADER.pack(length, kind, given | flags, sequence, port) + data[_HEADER.size :]


def _refusal(purpose: str, number: int, flags: int, payload: bytes) -> KernelError:
    reason = os.strerror(number)
    told = _extended_ack(flags, payload)
    text = f"The kernel refused to {purpose}: {reason}{f' ({told})' if told else ''}."
    refused = PrivilegeError if number in (errno.EPERM, errno.EACCES) else KernelError
    error = refused(text)
    error.number = number
    return error


def _extended_ack(flags: int, payload: bytes) -> str:
    """The explanation that the kernel attaches to an error, or an empty string."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    (original_length,) = struct.unpack_from("=I", payload, 4)
    offset = 4 + (_HEADER.size if flags & _NLM_F_CAPPED else (original_length + 3) & ~3)
    text = attributes(payload, offset).get(_NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode(errors="replace")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes of a message, or nested in another attribute, by number."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute as part of a message; nested ones are the value of another."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def pack(kind: int, flags: int, body: bytes) -> bytes:
    """A message of type `kind` (RTM_*) with `flags` besides REQUEST, without pyroute2."""
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body
