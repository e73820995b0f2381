"""The commands that look into a running lab and change it: set, cut, show, capture, graph, ..."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.output import (
    JsonOption,
    example,
    print_json,
    printable,
    stdout_console,
    write_file,
)
from testbed.cli.words import (
    FirstEnd,
    LabArgument,
    NodeArgument,
    SecondEnd,
    TowardOption,
    impairments,
    interfaces,
)
from testbed.errors import CaptureError, LabError

if TYPE_CHECKING:
    from testbed.living.descriptions import DirectionDescription


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("set", epilog=example("testbed set pair client server delay=50ms loss=1%"))(
        set_link
    )
    app.command("cut", epilog=example("testbed cut pair client server"))(cut)
    app.command("restore", epilog=example("testbed restore pair client server"))(restore)
    app.command("function", epilog=example("testbed function docomo router setup-proxy off"))(
        function
    )
    app.command("show", epilog=example("testbed show pair client sockets"))(show)
    app.command(
        "capture",
        epilog=example(
            "testbed capture pair client:eth0 -w a.pcap",
            "testbed capture pair client:eth0 --live",
            "testbed capture pair client:eth0 -w - | wireshark -k -i -",
        ),
    )(capture)
    app.command("graph", epilog=example("testbed graph docomo", "testbed graph pair --svg a.svg"))(
        graph
    )


def set_link(
    lab: LabArgument,
    a: FirstEnd,
    b: SecondEnd,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...",
            help="Impairments as in YAML; none takes one away.",
            autocompletion=impairments,
        ),
    ],
    toward: TowardOption = None,
) -> None:
    """Change some impairments of a link; the others stay."""
    _change(lab, a, b, "set", {"toward": toward, "changes": _assignments(changes)})


def cut(lab: LabArgument, a: FirstEnd, b: SecondEnd, toward: TowardOption = None) -> None:
    """Have a link drop all, silently, until it is restored."""
    _change(lab, a, b, "cut", {"toward": toward})


def restore(lab: LabArgument, a: FirstEnd, b: SecondEnd, toward: TowardOption = None) -> None:
    """End a cut."""
    _change(lab, a, b, "restore", {"toward": toward})


def _change(lab: str, a: str, b: str, verb: str, body: dict[str, Any]) -> None:
    from testbed.living.client import LabClient, link_path
    from testbed.living.descriptions import LinkDescription

    changed = LabClient.of(lab).ask("POST", link_path(a, b, verb), body, answer=LinkDescription)
    for direction in (changed.forward, changed.reverse):
        stdout_console().print(_in_words(changed.name, direction), soft_wrap=True)


def _in_words(link: str, direction: DirectionDescription) -> str:
    from testbed.report.impairment_words import in_a_line

    words = filter(None, ["cut" if direction.cut else "", in_a_line(direction.impairments)])
    return f"{link} to {direction.toward}: {', '.join(words) or 'unimpaired'}"


def _assignments(given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE as YAML has it: a value may be a mapping or a list."""
    from testbed.topology.yaml.document import parse, plain

    changes = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise LabError(f"A change is given as NAME=VALUE, such as delay=50ms, not '{text}'.")
        changes[name] = None if value == "none" else plain(parse(value, name))
    return changes


def function(
    lab: LabArgument,
    node: NodeArgument,
    name: Annotated[str | None, typer.Argument(metavar="FUNCTION")] = None,
    changes: Annotated[list[str] | None, typer.Argument(metavar="on|off|OPTION=VALUE...")] = None,
    json: JsonOption = False,
) -> None:
    """Show the functions of a middlebox, or switch one on or off, or set its options."""
    from testbed.living.client import LabClient, node_path
    from testbed.middlebox.counters import FunctionState

    client = LabClient.of(lab)
    if name is None or not changes:
        known = client.ask("GET", node_path(node, "functions"), answer=list[FunctionState])
        found = [state for state in known if name in (None, state.name)]
        if not found:
            there = ", ".join(state.name for state in known)
            raise LabError(f"The node '{node}' has no function '{name}'; it has {there}.")
    else:
        words = [word for word in changes if word in ("on", "off")]
        body = {
            "enabled": words[-1] == "on" if words else None,
            "options": _assignments([word for word in changes if word not in words]),
        }
        path = node_path(node, "functions", name)
        found = [client.ask("POST", path, body, answer=FunctionState)]
    if json:
        print_json(found)
        return
    for state in found:
        options = " ".join(f"{key}={value}" for key, value in state.options.items())
        switched = "on" if state.enabled else "off"
        stdout_console().print(f"{state.name}: {switched}  {options}", soft_wrap=True)


def show(
    lab: LabArgument,
    node: NodeArgument,
    what: Annotated[
        str, typer.Argument(metavar="statistics|log|sockets", autocompletion=lambda: _SHOWN)
    ],
    last: Annotated[int, typer.Option(min=1, help="So many lines of a log.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show what a node has counted or logged, or its sockets with TCP_INFO."""
    from testbed.living.client import LabClient, node_path

    if what not in _SHOWN:
        raise LabError(f"There is no '{what}' to show; there are {', '.join(_SHOWN)}.")
    query = f"?last={last}" if what == "log" else ""
    client = LabClient.of(lab)
    found = client.ask("GET", node_path(node, what) + query)
    if json:
        print_json(found)
    elif what == "sockets":
        _show_sockets(found)
    elif what == "log":
        sys.stdout.writelines(f"{printable(line)}\n" for line in found)
    else:
        _show_statistics(found)


_SHOWN = ("statistics", "log", "sockets")


def _show_sockets(found: Any) -> None:
    from testbed.report.socket_table import socket_table

    stdout_console().print(socket_table(found))


def _show_statistics(found: dict[str, Any]) -> None:
    import msgspec

    from testbed.middlebox.statistics import TcpStatistics

    if "services" in found:
        text = msgspec.convert(found["services"], TcpStatistics).render()
        sys.stdout.write(f"{printable(text)}\n")
    counted: dict[str, Any] = {part: found[part] for part in ("box", "kernel") if part in found}
    sys.stdout.writelines(f"{name}: {value}\n" for name, value in _counters(counted))


def _counters(tree: dict[str, Any], *path: str) -> Iterator[tuple[str, Any]]:
    """The numbers in a tree, with the words that lead to each."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _counters(value, *path, name)
        else:
            yield " ".join([*path, name]), value


def capture(
    lab: LabArgument,
    interface: Annotated[str, typer.Argument(metavar="NODE:INTERFACE", autocompletion=interfaces)],
    write: Annotated[
        str | None, typer.Option("-w", metavar="FILE", help="To a pcap file; - for a pipe.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Show the packets as they pass, through tcpdump.")
    ] = False,
) -> None:
    """Capture the packets of an interface until Ctrl-C; the exit status is 1 if any is missing."""
    from testbed.living.client import LabClient

    if (write is None) != live:
        raise LabError("Say -w FILE to keep the packets, or --live to look at them.")
    node, _, name = interface.partition(":")
    if not (node and name):
        raise LabError(
            f"An interface is given as NODE:INTERFACE, such as client:eth0, not '{interface}'."
        )
    client = LabClient.of(lab)
    with contextlib.ExitStack() as stack:
        if live:
            into = stack.enter_context(_viewer())
        elif write == "-":
            if sys.stdout.isatty():
                raise LabError("A capture is not for a terminal: use --live, or a pipe.")
            into = 1
        else:
            into = stack.enter_context(_file(Path(write or ""))).fileno()
        told = _capture(client, node, name, into, live=live or write == "-")
    sys.stderr.write(f"{told}\n")


@contextlib.contextmanager
def _file(path: Path) -> Iterator[Any]:
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise CaptureError(f"{path} cannot be written: {error.strerror}. Name another.") from None


@contextlib.contextmanager
def _viewer() -> Iterator[int]:
    """The pipe of a tcpdump that shows what it reads."""
    from testbed.kernel.processes.process import find_program

    argv = [find_program("tcpdump", "tcpdump"), "-n", "-l", "-r", "-"]
    # Its packets come to an end when ours do: a Ctrl-C is not its business.
    viewer = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    assert viewer.stdin is not None
    with viewer:
        yield viewer.stdin.fileno()


def _capture(client: Any, node: str, interface: str, into: int, *, live: bool) -> str:
    """Capture into a descriptor until a signal, or until nobody reads there any more."""
    from testbed.living.client import node_path

    path = node_path(node, "interfaces", interface, "capture")
    with client.converse(path, {"live": live}, [into]) as talk:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: talk.tell(stop=True))
        for words in talk.hear():
            if "ready" in words and into != 1:
                sys.stderr.write(f"Capturing {node}:{interface}; Ctrl-C ends it.\n")
            if "error" in words:
                raise CaptureError(words["error"])
            if "counts" in words:
                return f"{words['counts']['captured']} packets captured, none missing."
    raise LabError(f"The lab '{client.record.name}' has ended meanwhile.")


def graph(
    target: Annotated[str, typer.Argument(metavar="FILE|LAB", help="A topology, or a lab.")],
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture instead of text.")
    ] = None,
) -> None:
    """Draw a network: nodes with addresses, links with what they do to packets.

    A lab that runs is drawn as it is now; where none of that name does, the topology.
    """
    from testbed.living.client import LabClient
    from testbed.living.records import running_labs

    record = None if os.sep in target or "." in target else running_labs().get(target)
    if record is not None:
        drawn = LabClient(record).text("/graph", format="text" if svg is None else "svg")
    else:
        drawn = _drawn_plan(target, as_svg=svg is not None)
    if svg is not None:
        write_file(svg, drawn)
    else:
        console = stdout_console()
        console.print(drawn.rstrip("\n"), no_wrap=True, crop=False, soft_wrap=True)


def _drawn_plan(source: str, *, as_svg: bool) -> str:
    from testbed.loading import load
    from testbed.report.graph import network_picture
    from testbed.report.graph_svg import draw_network_svg
    from testbed.report.graph_terminal import draw_network
    from testbed.topology.planning.plan import plan

    picture = network_picture(plan(load(source)))
    return draw_network_svg(picture) if as_svg else draw_network(picture)
