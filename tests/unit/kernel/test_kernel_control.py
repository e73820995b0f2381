from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import LabError, ProcessDied
from testbed.kernel.processes.control import (
    ControlChannel,
    ControlServer,
    Descriptor,
    Message,
    _send,
)


class Add(Message, frozen=True):
    a: int
    b: int


class Refuse(Message, frozen=True):
    kept: Descriptor | None = None


class Length(Message, frozen=True):
    of: Descriptor
    less: Descriptor | None = None


class Hang(Message, frozen=True):
    pass


class WasNeverHeardOf(Message, frozen=True):
    pass


def refuse(asked: Refuse) -> None:
    raise ValueError("not today")


def length(asked: Length) -> int:
    sizes = []
    for file in (asked.of, asked.less):
        sizes.append(0 if file is None else os.fstat(file.fileno()).st_size)
        if file is not None:
            os.close(file.fileno())
    return sizes[0] - sizes[1]


@pytest.fixture
def served():
    """A channel to a server in a thread."""
    ours, theirs = socket.socketpair()
    release = threading.Event()
    handlers: dict[type[Message], Callable[[Any], object]] = {
        Add: lambda asked: asked.a + asked.b,
        Refuse: refuse,
        Length: length,
        Hang: lambda asked: release.wait(20),
    }
    server = ControlServer(theirs.detach(), handlers)

    def serve() -> None:
        while server.serve_one():
            pass
        server._sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    channel = ControlChannel(ours, "the helper", lambda: "status 3")
    yield channel
    release.set()
    channel.close()
    thread.join(20)
    assert not thread.is_alive()


def test_a_value_comes_back(served):
    assert served.request(Add(1, 2), int) == 3


def test_a_refusal_leaves_the_conversation_intact(served):
    with pytest.raises(LabError, match="the helper: not today"):
        served.request(Refuse())
    with pytest.raises(
        LabError, match=r"no message .* here: .*was_never_heard_of.*answered are add"
    ):
        served.request(WasNeverHeardOf())
    with pytest.raises(
        LabError, match=r"the helper: .*no message .* here: .*\"operation\":\"add\""
    ):
        served.request(Add("1", 2))  # type: ignore[arg-type]
    assert served.request(Add(2, 2), int) == 4


def test_descriptors_ride_along_by_name(served, tmp_path):
    long, short = tmp_path / "long", tmp_path / "short"
    long.write_bytes(bytes(17))
    short.write_bytes(bytes(5))
    with long.open() as first, short.open() as second:
        of, less = Descriptor(first.fileno()), Descriptor(second.fileno())
        assert served.request(Length(of=of), int) == 17
        assert served.request(Length(of=of, less=less), int) == 12
        assert served.request(Length(less=of, of=less), int) == -12


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_descriptors_of_a_refused_message_are_closed(served, tmp_path):
    before = open_files()
    with pytest.raises(LabError):
        served.request(Refuse(Descriptor(0)))
    assert open_files() == before


@pytest.mark.parametrize("named", [b'{"operation":"length","of":1}', b'{"operation":"hang"}', b"{"])
def test_a_message_that_does_not_fit_its_descriptors_is_refused(served, named):
    before = open_files()
    _send(served._sock, named, [0])
    with pytest.raises(LabError):
        # The reply to the malformed one comes first.
        served.request(Add(1, 1), int)
    assert open_files() == before


def test_hanging_up_reaches_the_helper_though_a_copy_of_the_socket_lives_on():
    ours, theirs = socket.socketpair()
    server = ControlServer(theirs.detach(), {Refuse: refuse, Length: length})
    with ours.dup():  # as a fork has it
        channel = ControlChannel(ours, "the helper")
        channel.close()
        channel.close()
        server._sock.settimeout(20)
        assert not server.serve_one()
    server._sock.close()


def test_a_fork_that_closes_its_copy_does_not_hang_up(served):
    pid = os.fork()
    if pid == 0:
        served.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert served.request(Add(1, 2), int) == 3


def test_requests_from_many_threads_get_their_own_answers(served):
    wrong = []

    def ask(number: int) -> None:
        wrong.extend(n for n in range(50) if served.request(Add(number, n), int) != number + n)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_silence_is_told_and_ends_the_conversation(served):
    with pytest.raises(ProcessDied, match=r"did not answer 'hang' within 0\.05 s"):
        served.request(Hang(), timeout=0.05)
    with pytest.raises(ProcessDied, match="an earlier request to it was broken off"):
        served.request(Add(1, 1), int)


def test_the_end_of_the_other_side_is_told_with_its_last_words():
    ours, theirs = socket.socketpair()
    theirs.close()
    channel = ControlChannel(ours, "the helper", lambda: "status 3")
    with pytest.raises(ProcessDied, match="the helper ended before it answered 'add': status 3"):
        channel.request(Add(1, 1), int)
    channel.close()
