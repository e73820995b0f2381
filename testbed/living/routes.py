"""The verbs of a running lab, as requests; docs/api.md has an example of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from testbed.lab.link import LabLink
from testbed.living.attachments import run_attached, run_capture
from testbed.living.conversation import Conversation
from testbed.living.descriptions import describe_lab, describe_link, picture_of
from testbed.living.events import EventLog
from testbed.living.held import HeldLab
from testbed.living.orders import CaptureOrder, Program
from testbed.living.routing import Document, EndlessDocument, Routes
from testbed.report.graph_svg import draw_network_svg
from testbed.report.graph_terminal import draw_network

ROUTES: Final = Routes()
_SILENCE_SECONDS = 15.0


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What comes with a request; an unknown key is an error."""


class GraphQuery(_Request, frozen=True, kw_only=True):
    format: Literal["svg", "text"] = "svg"


class EventsQuery(_Request, frozen=True, kw_only=True):
    """after: the number of an event; those after it that are kept come first."""

    after: int | None = None


class LogQuery(_Request, frozen=True, kw_only=True):
    last: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 20


class RunOrder(_Request, frozen=True, kw_only=True):
    """timeout: seconds after which the program is killed."""

    argv: list[str]
    stdin: str = ""
    env: dict[str, str] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 60.0


class RunResult(msgspec.Struct, frozen=True):
    """A program that has ended by itself; what it wrote is text."""

    status: int
    stdout: str
    stderr: str


class Directed(_Request, frozen=True, kw_only=True):
    """toward: the node at the end of the direction; None for both directions."""

    toward: str | None = None


class LinkChange(Directed, frozen=True, kw_only=True):
    """changes: impairments by name, with values as in YAML; null takes one away."""

    changes: dict[str, Any]


class FunctionChange(_Request, frozen=True, kw_only=True):
    """enabled: None leaves it as it is."""

    enabled: bool | None = None
    options: dict[str, Any] = {}


@ROUTES.add("GET", "/lab")
def lab(held: HeldLab, _: None) -> object:
    """Nodes, links, captures, and whether all is well."""
    return describe_lab(held)


@ROUTES.add("DELETE", "/lab")
def end(held: HeldLab, _: None) -> object:
    """Take the lab down; the holder ends when it has answered."""
    held.end()
    return {}


@ROUTES.add("GET", "/graph", GraphQuery)
def graph(held: HeldLab, query: GraphQuery) -> Document:
    """A picture of the network as it is now."""
    picture = picture_of(held)
    if query.format == "svg":
        return Document("image/svg+xml", draw_network_svg(picture))
    return Document("text/plain; charset=utf-8", draw_network(picture) + "\n")


@ROUTES.add("GET", "/events", EventsQuery)
def events(held: HeldLab, query: EventsQuery) -> EndlessDocument:
    """What happens from now on, or after an event, as server-sent events."""
    after = held.events.last if query.after is None else query.after
    return EndlessDocument("text/event-stream", _as_sent(held.events, after))


def _as_sent(log: EventLog, after: int) -> Iterator[str]:
    """Source: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    yield ": testbed\n\n"
    for event in log.after(after, _SILENCE_SECONDS):
        if event is None:
            yield ":\n\n"
        else:
            data = msgspec.json.encode(event).decode()
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n"


@ROUTES.add("POST", "/nodes/{node}/run", RunOrder)
def run(held: HeldLab, order: RunOrder, node: str) -> RunResult:
    """Run a program to its end and answer with what it wrote."""
    done = held.lab[node].run(
        order.argv, input=order.stdin, timeout=order.timeout, check=False, env=order.env
    )
    return RunResult(done.status, done.stdout, done.stderr)


@ROUTES.add("POST", "/nodes/{node}/attach", Program, converses=True)
def attach(held: HeldLab, program: Program, node: str, conversation: Conversation) -> None:
    """Run a program whose standard streams are descriptors of the client's."""
    run_attached(held.lab, node, program, conversation)


@ROUTES.add("POST", "/nodes/{node}/interfaces/{interface}/capture", CaptureOrder, converses=True)
def capture(
    held: HeldLab, order: CaptureOrder, node: str, interface: str, conversation: Conversation
) -> None:
    """Capture into a file of the client's."""
    run_capture(held.lab, node, interface, order, conversation)


@ROUTES.add("GET", "/nodes/{node}/sockets")
def sockets(held: HeldLab, _: None, node: str) -> object:
    """The TCP and UDP sockets of a node, with TCP_INFO."""
    return held.lab[node].open_sockets()


@ROUTES.add("GET", "/nodes/{node}/statistics")
def statistics(held: HeldLab, _: None, node: str) -> object:
    """What the node's kernel has counted, and what its middlebox has."""
    found = held.lab[node]
    told: dict[str, object] = {"kernel": found.protocol_counters()}
    if found.middlebox is not None:
        told |= {"box": found.counters(), "services": found.statistics("tcp")}
    return told


@ROUTES.add("GET", "/nodes/{node}/log", LogQuery)
def log(held: HeldLab, query: LogQuery, node: str) -> list[str]:
    """The newest lines of the middlebox function `trace-log`."""
    return held.lab[node].log(query.last)


@ROUTES.add("GET", "/nodes/{node}/functions")
def functions(held: HeldLab, _: None, node: str) -> object:
    """The functions of a middlebox, as they are now."""
    return list(held.lab[node].functions().values())


@ROUTES.add("POST", "/nodes/{node}/functions/{function}", FunctionChange)
def change_function(held: HeldLab, change: FunctionChange, node: str, function: str) -> object:
    """Switch a function on or off, change its options, and answer with what it is then."""
    held.change_function(node, function, change.enabled, change.options)
    return held.lab[node].functions()[function]


@ROUTES.add("GET", "/links/{a}/{b}")
def link(held: HeldLab, _: None, a: str, b: str) -> object:
    """What a link does to packets now, and has counted."""
    return describe_link(held, held.lab.link(a, b), counted=True)


@ROUTES.add("POST", "/links/{a}/{b}/set", LinkChange)
def set_link(held: HeldLab, change: LinkChange, a: str, b: str) -> object:
    """Change some impairments of a link; the others stay."""
    return _changed(held, held.lab.link(a, b), "set", change.toward, change.changes)


@ROUTES.add("POST", "/links/{a}/{b}/cut", Directed)
def cut(held: HeldLab, change: Directed, a: str, b: str) -> object:
    """Drop all that enters a link."""
    return _changed(held, held.lab.link(a, b), "cut", change.toward)


@ROUTES.add("POST", "/links/{a}/{b}/restore", Directed)
def restore(held: HeldLab, change: Directed, a: str, b: str) -> object:
    """End a cut."""
    return _changed(held, held.lab.link(a, b), "restore", change.toward)


def _changed(
    held: HeldLab,
    link: LabLink,
    verb: Literal["set", "cut", "restore"],
    toward: str | None,
    changes: dict[str, Any] | None = None,
) -> object:
    held.change_link(link, verb, toward, changes)
    return describe_link(held, link)
