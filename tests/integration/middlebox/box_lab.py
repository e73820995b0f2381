"""A client outside, a setup proxy, a server inside: real Linux TCP through the real process."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from testbed import loads
from testbed.lab import Lab

SECONDS = 50.0
MEGABYTE = random.Random(1).randbytes(1 << 20)

_TOPOLOGY = """
name: box
seed: {seed}
nodes:
  client: {{congestion_control: cubic, sysctls: {client}}}
  router: {{kind: middlebox, outside: client, functions: [setup-proxy: {options}]}}
  server: {{congestion_control: cubic, sysctls: {server}, routes: {routes}}}
links:
  - {{endpoints: [client:eth0, router:outside], delay: {delay}, loss: {loss}, emulated: true}}
  - {{endpoints: [router:inside, server:eth0], loss: {loss}, emulated: true}}
"""


@contextlib.contextmanager
def box_lab(
    options: Mapping[str, object] | None = None,
    *,
    client: Mapping[str, object] | None = None,
    server: Mapping[str, object] | None = None,
    routes: str = "[]",
    delay: str = "1ms",
    loss: str = "0%",
    seed: int = 1,
) -> Iterator[Lab]:
    """The network, and at its end the question whether every packet is accounted for."""
    text = _TOPOLOGY.format(
        options=_flow(options),
        client=_flow(client),
        server=_flow(server),
        routes=routes,
        delay=delay,
        loss=loss,
        seed=seed,
    )
    with Lab(loads(text)) as lab:
        yield lab
        counters = lab["router"].counters()
        assert counters.missing == 0
        assert not [
            cause for cause in counters.dropped if cause.startswith(("malformed", "not-sent"))
        ]


def _flow(values: Mapping[str, object] | None) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in (values or {}).items()) + "}"


def proxy_counters(lab: Lab) -> dict[str, int]:
    return lab["router"].function("setup-proxy").counters()


def connect(lab: Lab, listener: socket.socket, *, quick_ack: bool = True) -> socket.socket:
    """A connection from the client; without `quick_ack` its handshake may end with data."""
    sock = lab["client"].socket(listener.family)
    sock.settimeout(SECONDS)
    if not quick_ack:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    sock.connect(listener.getsockname()[:2])
    return sock


def listen(lab: Lab, family: int = 4) -> socket.socket:
    node = lab["server"]
    listener = node.listen(address=node.address if family == 4 else node.address6)
    listener.settimeout(SECONDS)
    return listener


def accept(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.settimeout(SECONDS)
    return sock


def send_all(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def exchange(lab: Lab, family: int, data: bytes = MEGABYTE) -> None:
    """`data` both ways at once over one connection, byte for byte."""
    with listen(lab, family) as listener, ThreadPoolExecutor(4) as pool:
        near = connect(lab, listener)
        # The server speaks only after it was spoken to: the handshake may still be under way.
        far = accept(listener)
        with near, far:
            sent = [pool.submit(send_all, sock, data) for sock in (near, far)]
            got = [pool.submit(receive_all, sock) for sock in (near, far)]
            for future in sent:
                future.result(SECONDS)
            for future in got:
                assert future.result(SECONDS) == data


def exchange_over_both(lab: Lab, data: bytes = MEGABYTE) -> None:
    """`exchange` over IPv4 and IPv6 at the same time."""
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(exchange, lab, family, data) for family in (4, 6)]:
            future.result(2 * SECONDS)


@contextlib.contextmanager
def responder(lab: Lab, family: int = 4, greeting: bytes = b"") -> Iterator[socket.socket]:
    """A server that greets and then answers every request of 100 bytes with 100 bytes."""
    listener = listen(lab, family)

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            if greeting:
                sock.sendall(greeting)
            while request := sock.recv(100):
                sock.sendall(request)

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(accept(listener),), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
        listener.close()


def response_time(lab: Lab, listener: socket.socket, *, with_handshake: bool) -> float:
    """Seconds from a connected client's request to its response."""
    with connect(lab, listener, quick_ack=not with_handshake) as sock:
        if not with_handshake:
            time.sleep(0.002)  # lets the bare acknowledgement go first
        started = time.perf_counter()
        sock.sendall(bytes(100))
        received = 0
        while received < 100:
            received += len(sock.recv(100))
        return time.perf_counter() - started


def quickest_response(lab: Lab, listener: socket.socket, *, with_handshake: bool) -> float:
    """Of five: the machine may stall during some, but what is always late stays late."""
    return min(response_time(lab, listener, with_handshake=with_handshake) for _ in range(5))
