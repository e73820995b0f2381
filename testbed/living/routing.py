"""Which request is answered by which function, and what comes with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from testbed.errors import TestbedError

F = TypeVar("F", bound=Callable[..., object])


class RequestRefused(TestbedError):
    """A request that is not answered; status: as HTTP tells it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Document(msgspec.Struct, frozen=True):
    """An answer that is no JSON."""

    kind: str
    text: str


class EndlessDocument(msgspec.Struct, frozen=True):
    """An answer that goes on until the client hangs up; pieces: of text."""

    kind: str
    pieces: Iterator[str]


class RequestKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of request.

    path: with names in braces. wanted: what the body (of GET: the query) holds; None for nothing.
    converses: whether descriptors follow, and what they are for (`testbed.living.conversation`).
    """

    method: str
    path: str
    function: Callable[..., object]
    wanted: type[msgspec.Struct] | None
    converses: bool

    def match(self, path: str) -> Mapping[str, str] | None:
        """The values of the names in the path, or None for another path."""
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return None if found is None else {k: unquote(v) for k, v in found.groupdict().items()}


class Routes:
    """All requests that are answered."""

    def __init__(self) -> None:
        self.known: list[RequestKind] = []

    def add(
        self,
        method: str,
        path: str,
        wanted: type[msgspec.Struct] | None = None,
        *,
        converses: bool = False,
    ) -> Callable[[F], F]:
        """Have a function answer; it gets the lab, what is wanted, and the names in the path."""

        def register(function: F) -> F:
            self.known.append(
                RequestKind(
                    method=method, path=path, function=function, wanted=wanted, converses=converses
                )
            )
            return function

        return register

    def find(self, method: str, path: str) -> tuple[RequestKind, Mapping[str, str]]:
        """Raises `RequestRefused` for a path, or a method, that there is not."""
        matching = [(one, found) for one in self.known if (found := one.match(path)) is not None]
        for one, found in matching:
            if one.method == method:
                return one, found
        if not matching:
            raise RequestRefused(404, f"There is no {path}; docs/api.md lists what there is.")
        methods = ", ".join(one.method for one, _ in matching)
        raise RequestRefused(405, f"{path} answers {methods}, and not {method}.")


def decoded(route: RequestKind, query: Mapping[str, str], body: bytes) -> Any:
    """What came with a request, as the route wants it. Raises `RequestRefused`."""
    if route.wanted is None:
        if query or body.strip():
            raise RequestRefused(400, f"{route.method} {route.path} takes neither query nor body.")
        return None
    try:
        if route.method == "GET":
            return msgspec.convert(query, route.wanted, strict=False)
        return msgspec.json.decode(body or b"{}", type=route.wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(400, f"{route.method} {route.path}: {error}.") from None
