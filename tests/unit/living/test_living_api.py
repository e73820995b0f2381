"""The API by itself: what is no request, too much of one, and whether docs/api.md has all of it."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from testbed.errors import LabError
from testbed.living import server
from testbed.living.conversation import PROTOCOL, Conversation
from testbed.living.routes import ROUTES
from testbed.living.routing import RequestKind, RequestRefused, decoded

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    held: Any = None  # no request below gets as far as to a lab
    place = tmp_path / "api.sock"
    with server.ApiServer(place, held) as api:
        serving = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield place
        api.shutdown()
        serving.join()


def answer(path: Path, request: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # refused before it was read
            sock.sendall(request.replace("\n", "\r\n").encode())
        return sock.makefile("rb").readline().decode().strip()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /nothing HTTP/1.1\n\n", 404),
        ("GET /nodes/a/b/sockets HTTP/1.1\n\n", 404),
        ("POST /lab HTTP/1.1\nContent-Length: 0\n\n", 405),
        ("GET /lab?x=1 HTTP/1.1\n\n", 400),
        ("GET /events?after=x HTTP/1.1\n\n", 400),
        ("POST /nodes/a/run HTTP/1.1\nContent-Length: 2\n\n{}", 400),
        ('POST /nodes/a/run HTTP/1.1\nContent-Length: 9\n\n{"a": 1}\n', 400),
        ("POST /nodes/a/run HTTP/1.1\nContent-Length: 2\n\n{x", 400),
        ("POST /nodes/a/run HTTP/1.1\nContent-Length: 99999999\n\n", 413),
        (f"POST /nodes/a/run HTTP/1.1\nContent-Length: {'9' * 5000}\n\n", 413),
        ("POST /nodes/a/run HTTP/1.1\nContent-Length: -1\n\n", 411),
        ("GET http://[ HTTP/1.1\n\n", 400),
        (f"GET /events?{'a&' * 30} HTTP/1.1\n\n", 400),
        ("GET /nodes/a/log?last=-1 HTTP/1.1\n\n", 400),
        ("GET /nodes/a/log?last=1e99 HTTP/1.1\n\n", 400),
        ("POST /nodes/a/run HTTP/1.1\nTransfer-Encoding: chunked\n\n", 411),
        ('POST /nodes/a/attach HTTP/1.1\nContent-Length: 12\n\n{"argv": []}', 426),
        ("BREW /lab HTTP/1.1\n\n", 501),
        (f"GET /{'x' * 70000} HTTP/1.1\n\n", 414),
        ("GET /lab HTTP/1.1\n" + "X: 1\n" * 200 + "\n", 431),
        ("GET /lab HTTP/9.9\n\n", 505),
    ],
)
def test_what_is_no_request_is_answered_so(path, request_text, status):
    assert f" {status} " in f"{answer(path, request_text)} "


@pytest.mark.parametrize("value", [b"[" * 100_000, b'"\xff"'], ids=["deep", "no UTF-8"])
def test_what_json_cannot_be_is_refused(value):
    kind, _ = ROUTES.find("POST", "/links/a/b/set")
    with pytest.raises(RequestRefused):
        decoded(kind, {}, b'{"changes": {"delay": %b}}' % value)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"signal": %b}\n' % value[:50_000])
        with pytest.raises(LabError, match="no JSON object"):
            next(Conversation(ours).hear())


def test_the_socket_is_for_its_user_alone(path, monkeypatch):
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(server.os, "geteuid", lambda: 4711)
    assert " 403 " in answer(path, "GET /lab HTTP/1.1\n\n")


def test_connections_are_bounded(path):
    held = []
    for _ in range(server.MOST_AT_ONCE):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        held.append(sock)
    try:
        assert " 503 " in answer(path, "GET /lab HTTP/1.1\n\n")
    finally:
        for sock in held:
            sock.close()


def sections() -> dict[str, str]:
    """The sections of the page about single requests, by their headings."""
    parts = re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)
    return {part.splitlines()[0]: part for part in parts if re.match(r"[A-Z]+ /", part)}


def examples(text: str) -> list[tuple[str, str, str]]:
    """Method, target and body of each curl command in a text."""
    found = []
    for line in re.findall(r"^curl .*$", text, flags=re.MULTILINE):
        words = shlex.split(line)
        body = words[words.index("-d") + 1] if "-d" in words else ""
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if body else "GET"
        assert words[words.index("--unix-socket") + 1] == "$S"
        (url,) = (word for word in words if word.startswith("http://lab/"))
        found.append((method, url.removeprefix("http://lab"), body))
    return found


def test_the_page_has_every_request_and_no_other():
    assert sorted(sections()) == sorted(f"{kind.method} {kind.path}" for kind in ROUTES.known)


@pytest.mark.parametrize("kind", ROUTES.known, ids=lambda kind: f"{kind.method} {kind.path}")
def test_the_example_of_a_request_is_one(kind: RequestKind):
    text = sections()[f"{kind.method} {kind.path}"]
    if kind.converses:
        assert PROTOCOL in PAGE.read_text() and "descriptor" in text
        return
    ((method, target, body),) = examples(text)
    parts = urlsplit(target)
    found, _ = ROUTES.find(method, parts.path)
    assert found is kind
    decoded(kind, dict(parse_qsl(parts.query)), body.encode())


@pytest.mark.parametrize("kind", ROUTES.known, ids=lambda kind: f"{kind.method} {kind.path}")
def test_whatever_a_request_takes_is_told(kind: RequestKind):
    text = sections()[f"{kind.method} {kind.path}"]
    for name in kind.wanted.__struct_fields__ if kind.wanted else ():
        assert f"`{name}`" in text or f'"{name}"' in text, name
