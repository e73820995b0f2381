"""TCP Fast Open through a box: what each of its three policies costs.

With a cookie from an earlier connection, a request rides on the SYN and is answered after one
round trip instead of two (RFC 7413).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from rich.text import Text

from testbed.report import draw_svg
from testbed.scenarios import (
    Experiment,
    Judgement,
    Measurements,
    Presentation,
    Result,
    path_ladder,
    scenario,
)
from testbed.scenarios.parameters import Count
from testbed.topology.model import Topology
from testbed.topology.vary import with_function, with_node
from testbed.trace import Segment, read_trace
from testbed.traffic import Responder, fast_open_exchange
from testbed.wire.flags import SYN

CLIENT, BOX, SERVER = COLUMNS = ("client", "box", "server")
FUNCTION = "fast-open"
ONE, TWO, LATE = "1 round trip", "2 round trips", "1 second late"

_EXPERIMENT: Final = 254
_EXPERIMENT_ID: Final = b"\xf9\x89"
_REQUEST_BYTES: Final = 400
_SYSCTL: Final = "net.ipv4.tcp_fastopen"
_SERVERS: Final = {"cookies": "3", "plain": "1"}  # ip-sysctl.rst: bit 2 is the server's side

Mode = Literal["forward", "drop", "strip"]
Connection = Literal["first", "second"]
Server = Literal["cookies", "plain"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """How long the response took, and whether the option is in the captures on both sides."""
    mode = parameters["mode"]
    knows = parameters["connection"] == "second" and parameters["server"] == "cookies"
    time = LATE if mode == "drop" else ONE if mode == "forward" and knows else TWO
    arrives = "arrives" if mode == "forward" else "does not arrive"
    late = float(measured["response_ms"]) - 2 * float(measured["round_trip_ms"])
    if 850 <= late <= 1300:
        found = LATE
    elif late > 200:
        found = f"{late:.0f} ms late"
    else:
        # The acknowledgement of the SYN's data tells what a clock on a busy machine may not.
        found = ONE if measured["syn_data"] else TWO
    reached = "arrives" if measured["options_arrived"] else "does not arrive"
    if measured["options_arrived"] not in (0, measured["options_sent"]):
        reached = "arrives sometimes"
    if not measured["options_sent"]:
        reached = "was never sent"
    return Judgement(f"{found}, option {reached}", f"{time}, option {arrives}")


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The box's statistics for each mode, and the ladder of one request on a SYN."""
    files = {"captures": folder / "captures", "result": folder / "result.json"}
    chosen = {
        "Forwarded: the request rides on the SYN": {"mode": "forward", "connection": "second"},
        "Dropped: a plain SYN a second later": {"mode": "drop", "connection": "first"},
        "Stripped: the request waits for the handshake": {"mode": "strip", "connection": "first"},
    }
    ladders = []
    for title, parameters in chosen.items():
        for run in result.runs_of(server="cookies", **parameters)[:1]:
            captures = {name: folder / path for name, path in run.captures.items()}
            ladders.append(path_ladder(topology, COLUMNS, captures, title=title))
    if ladders:
        files["ladder"] = folder / "ladder.svg"
        files["ladder"].write_text(draw_svg(*ladders))

    def blocks(_: int) -> list[Any]:
        shown = []
        for mode in ("forward", "drop", "strip"):
            for run in result.runs_of(mode=mode, connection="first")[:1]:
                shown.append(
                    Text.assemble(
                        (f'lab["{BOX}"].statistics("tcp")', "cyan"),
                        f" after one request, mode {mode}:\n",
                        str(run.measurements["statistics"]),
                    )
                )
        return shown

    return Presentation(blocks, files)


@scenario(
    "fast-open",
    topology="fast-open",
    grid={
        "mode": ("forward", "drop", "strip"),
        "connection": ("first", "second"),
        "server": ("cookies", "plain"),
    },
    judge=judge,
    present=present,
    columns={
        "mode": "the box",
        "connection": "connection",
        "server": "server",
        "response_ms": "response after (ms)",
        "forwarded": "forwarded",
        "dropped": "dropped",
        "stripped": "stripped",
    },
    labels={
        "mode": {"forward": "forwards", "drop": "drops", "strip": "strips"},
        "server": {"cookies": "gives cookies", "plain": "does not know Fast Open"},
    },
)
def fast_open(
    experiment: Experiment,
    mode: Mode = "forward",
    connection: Connection = "second",
    server: Server = "cookies",
    response_bytes: Count = 400,
) -> Measurements:
    """TCP Fast Open through a box that forwards, drops or strips it.

    connection: the `second` is made by a client that has been given a cookie, if anybody gave it
    one. Counters are those of the one connection; what is sent and arrives is read from the
    captures on both sides of the box.
    """
    topology = with_function(experiment.topology, BOX, FUNCTION, mode=mode)
    settings = {**topology.nodes[SERVER].sysctls, _SYSCTL: _SERVERS[server]}
    topology = with_node(topology, SERVER, sysctls=settings)
    round_trip = topology.round_trip
    with (
        experiment.lab(topology) as lab,
        Responder(
            lab[SERVER],
            request=_REQUEST_BYTES,
            response=response_bytes,
            fast_open=server == "cookies",
        ) as responder,
    ):
        if connection == "second":
            fast_open_exchange(lab[CLIENT], responder)
        before = lab[BOX].statistics("tcp")
        found = fast_open_exchange(lab[CLIENT], responder)
        after = lab[BOX].statistics("tcp")
    sent = _fast_open_syns(experiment, f"{CLIENT}:eth0")
    arrived = _fast_open_syns(experiment, f"{SERVER}:eth0")
    return {
        "response_ms": found.last_byte * 1000,
        "round_trip_ms": round_trip * 1000,
        "syn_data": int(found.info.syn_data_acknowledged),
        "options_sent": len(sent),
        "options_arrived": len(arrived),
        "forwarded": after.tfo_packets_forwarded - before.tfo_packets_forwarded,
        "dropped": after.tfo_packets_dropped - before.tfo_packets_dropped,
        "stripped": after.tfo_packets_stripped - before.tfo_packets_stripped,
        "statistics": after.render(),
    }


def _fast_open_syns(experiment: Experiment, where: str) -> list[Segment]:
    """The SYNs with either kind of the option, or with data, that a capture has from the client."""
    trace = read_trace(experiment.captures[where])
    return [
        segment
        for connection in trace.connections
        for segment in connection.by_initiator.segments
        if segment.flags & SYN and (segment.length or _has_option(segment))
    ]


def _has_option(segment: Segment) -> bool:
    options = segment.options
    return options.fast_open is not None or any(
        kind == _EXPERIMENT and value.startswith(_EXPERIMENT_ID) for kind, value in options.unknown
    )
