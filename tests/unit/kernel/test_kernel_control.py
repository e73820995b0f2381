from __future__ import annotations

import os
import socket
import threading

import pytest

from testbed.errors import LabError, ProcessDied
from testbed.kernel.processes.control import ControlChannel, ControlServer


@pytest.fixture
def served():
    """A channel to a server in a thread: `add` adds, `refuse` refuses, `length` of a descriptor."""
    ours, theirs = socket.socketpair()
    release = threading.Event()

    def refuse(arguments, fds):
        raise ValueError("not today")

    def length(arguments, fds):
        size = os.fstat(fds[0]).st_size
        os.close(fds[0])
        return size

    handlers = {
        "add": lambda arguments, fds: arguments["a"] + arguments["b"],
        "refuse": refuse,
        "length": length,
        "hang": lambda arguments, fds: release.wait(20),
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
    assert served.request("add", a=1, b=2) == 3


def test_a_refusal_leaves_the_conversation_intact(served):
    with pytest.raises(LabError, match="the helper: not today"):
        served.request("refuse")
    with pytest.raises(LabError, match="unknown operation 'nothing'"):
        served.request("nothing")
    assert served.request("add", a=2, b=2) == 4


def test_a_descriptor_rides_along(served, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(17))
    with file.open() as opened:
        assert served.request("length", fds=[opened.fileno()]) == 17


def test_requests_from_many_threads_get_their_own_answers(served):
    wrong = []

    def ask(number: int) -> None:
        wrong.extend(n for n in range(50) if served.request("add", a=number, b=n) != number + n)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_silence_is_told_and_ends_the_conversation(served):
    with pytest.raises(ProcessDied, match=r"did not answer 'hang' within 0\.05 s"):
        served.request("hang", timeout=0.05)
    with pytest.raises(ProcessDied, match="an earlier request to it was broken off"):
        served.request("add", a=1, b=1)


def test_the_end_of_the_other_side_is_told_with_its_last_words():
    ours, theirs = socket.socketpair()
    theirs.close()
    channel = ControlChannel(ours, "the helper", lambda: "status 3")
    with pytest.raises(ProcessDied, match="the helper ended before it answered 'add': status 3"):
        channel.request("add")
    channel.close()
