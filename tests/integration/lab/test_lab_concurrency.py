"""A lab used by threads and by coroutines."""

from __future__ import annotations

import asyncio
import threading

import pytest
from lab_topologies import boxed, pair

from testbed.errors import LabError, ProcessDied
from testbed.lab import Lab


def test_sockets_from_many_threads():
    with Lab(pair()) as lab:
        listener = lab["b"].listen(7000)
        failures = []

        def talk() -> None:
            try:
                for name in ("a", "b") * 10:
                    with lab[name].socket() as sock:
                        sock.connect((lab["b"].address, 7000))
                        assert sock.getpeername()[0] == lab["b"].address
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=talk) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(8 * 20):
            listener.accept()[0].close()
        for thread in threads:
            thread.join()
        assert failures == []


def test_a_call_inside_a_call_comes_back_to_its_namespace():
    with Lab(pair()) as lab:
        a, b = lab["a"].namespace, lab["b"].namespace

        def identity() -> str:
            from pathlib import Path

            return str(Path("/proc/thread-self/ns/net").readlink())

        def nested() -> tuple[str, str, str]:
            return identity(), b.call(identity), identity()

        before, inside, after = a.call(nested)
        assert before == after != inside


@pytest.mark.asyncio
async def test_asyncio_clients_and_servers():
    async with Lab(pair(emulated=True)) as lab:
        loop = asyncio.get_running_loop()

        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, sock=lab["b"].listen(7001))
        async with server:
            client = lab["a"].socket()
            client.setblocking(False)
            await loop.sock_connect(client, (lab["b"].address, 7001))
            await loop.sock_sendall(client, b"hello\n")
            assert await asyncio.wait_for(loop.sock_recv(client, 100), 30) == b"HELLO\n"


@pytest.mark.asyncio
async def test_a_coroutine_that_waits_is_woken_when_the_emulator_dies():
    with pytest.raises(ProcessDied, match="link emulator"):
        async with Lab(pair(emulated=True)) as lab:
            listener = lab["b"].listen()
            loop = asyncio.get_running_loop()
            client = lab["a"].socket()
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            next(iter(lab._runtime.group._started)).kill()
            received = await asyncio.wait_for(loop.sock_recv(client, 100), 30)
    assert received == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("moment", [0, 0.005, 0.02, 0.05, 0.1, 0.2])
async def test_a_coroutine_cancelled_while_it_builds_leaves_nothing(moment):
    lab = Lab(boxed(captures=["client"]))
    task = asyncio.create_task(lab.__aenter__())
    await asyncio.sleep(moment)
    task.cancel()
    try:
        await asyncio.wait_for(asyncio.shield(task), 30)
    except asyncio.CancelledError:
        with pytest.raises(LabError):
            lab.check()
    else:  # it was ready before
        await lab.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_a_coroutine_cancelled_in_the_block_takes_the_lab_down():
    entered = asyncio.Event()

    async def use() -> None:
        async with Lab(pair(captures=["a"])):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    await asyncio.wait_for(entered.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
