"""The command check: of topologies, and of captures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.output import (
    JsonOption,
    example,
    only_ascii,
    print_error,
    print_json,
    stdout_console,
)
from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.conformance import Circumstances


class ProfileName(StrEnum):
    """Which RFCs a TCP is held to."""

    MODERN = "modern"
    RFC2525 = "rfc2525"


class CapturedAt(StrEnum):
    """Where a capture was taken."""

    INITIATOR = "initiator"
    RESPONDER = "responder"
    BETWEEN = "between"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "check",
        epilog=example(
            "testbed check topologies/*.yaml",
            "testbed check client.pcap --problem no-rto-backoff --all",
            "tcpdump -r old.pcap -n | testbed check - --profile rfc2525",
        ),
    )(check)


def check(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Topologies: YAML files, or names such as docomo. Captures: as for `trace`, also "
            "what tcpdump prints; - is standard input.",
        ),
    ],
    profile: Annotated[
        ProfileName, typer.Option(help="Of captures: the RFCs that TCP is held to.")
    ] = ProfileName.MODERN,
    problem: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of captures: look for this one only; several times."),
    ] = None,
    at: Annotated[
        CapturedAt | None, typer.Option(help="Where captures were taken, where they do not tell.")
    ] = None,
    default_settings: Annotated[
        bool,
        typer.Option("--default-settings", help="No application has changed settings of TCP."),
    ] = False,
    plain_close: Annotated[
        bool,
        typer.Option(
            "--plain-close",
            help="Applications end with close() right after their last write, never by shutdown().",
        ),
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Of captures: also what passed or is open, and why.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check topologies without building anything, or the TCP in captures for known problems.

    All faults of a topology are told at once. Of a capture: the 18 problems of RFC 2525, for each
    endpoint of each connection. Exit status 1 when anything fails.
    """
    faulty = False
    told: list[Any] = []
    known = _known(at, default_settings=default_settings, plain_close=plain_close)
    for name in files:
        try:
            if _is_capture(name):
                failed, data = _check_capture(name, profile, problem or [], known, all_, json)
                faulty = faulty or failed
            else:
                data = _check_topology(name, json)
            told.append(data)
        except TestbedError as error:
            faulty = True
            print_error(error)
    if json:
        print_json(told)
    if faulty:
        raise typer.Exit(1)


def _is_capture(name: str) -> bool:
    from testbed.trace import is_capture

    return name == "-" or is_capture(name)


def _known(at: CapturedAt | None, *, default_settings: bool, plain_close: bool) -> Circumstances:
    from testbed.conformance import Circumstances
    from testbed.trace.analysis import VantagePoint

    vantage = None if at is None else VantagePoint[at.name]
    return Circumstances(vantage, default_settings, plain_close)


def _check_capture(
    name: str,
    profile: ProfileName,
    problems: list[str],
    known: Circumstances,
    everything: bool,
    json: bool,
) -> tuple[bool, dict[str, Any]]:
    """Whether anything failed, and what JSON says of the capture."""
    from testbed.cli.traces import read
    from testbed.conformance import check_trace
    from testbed.conformance.presentation import FindingsTable

    trace = read(name, ignore_copies=False)
    findings = check_trace(trace, profile=profile.value, problems=problems, known=known)
    console = stdout_console()
    table = FindingsTable(
        trace,
        findings,
        everything=everything,
        ascii_only=only_ascii(console),
    )
    if not json:
        console.print(table)
    return table.failed, {"file": name, "profile": profile.value, "findings": findings}


def _check_topology(name: str, json: bool) -> dict[str, Any]:
    """What JSON says of the topology. Raises TestbedError with all that is wrong with it."""
    from testbed.loading import load
    from testbed.topology.planning.plan import plan

    planned = plan(load(Path(name)))
    nodes, links = len(planned.nodes), len(planned.links)
    if not json:
        stdout_console().print(f"{name}: ok (nodes: {nodes}, links: {links})", soft_wrap=True)
    return {"file": name, "nodes": nodes, "links": links}
