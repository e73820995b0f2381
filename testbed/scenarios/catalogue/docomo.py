"""One second late: a TCP setup proxy that drops the data on the handshake's last segment.

The case is a router of 2009 between a mobile operator's gateway and a web server. The gateway
sent its request on the third segment of the handshake; the router, which answered SYNs on the
server's behalf, threw that payload away; and the gateway sent it again one RTO later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from testbed.report import beside, dot_plot, draw, draw_svg
from testbed.scenarios import (
    Experiment,
    Judgement,
    Measurements,
    Presentation,
    Result,
    RunRecord,
    path_ladder,
    scenario,
)
from testbed.scenarios.parameters import Count
from testbed.topology.model import Topology
from testbed.topology.vary import with_function_if, with_link, with_node
from testbed.traffic import Responder, exchange

GATEWAY, ROUTER, SERVER = COLUMNS = ("gateway", "router", "server")
FUNCTION = "setup-proxy"
ON_TIME, LATE = "on time", "one second late"

_MOBILE_2009_ONE_WAY = 0.165
_WITHOUT_TAIL_LOSS_PROBE = {"net.ipv4.tcp_early_retrans": "0"}
_REQUEST_BYTES = 400
_PROXY_LABELS = {
    "drop": "on (drops handshake data)",
    "hold": "on (repaired: keeps it)",
    "off": "off",
    "cured": "on, then switched off while running",
}
_HANDSHAKE_LABELS = {"data": "carries data", "bare": "bare"}

Proxy = Literal["drop", "hold", "off", "cured"]
Handshake = Literal["data", "bare"]
Path_ = Literal["short", "mobile-2009"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Late by a second, on time, or something else; expected late in one cell only."""
    faulty = parameters["proxy"] == "drop" and parameters["handshake"] == "data"
    late = float(measured["late_ms"])
    if late < 100:
        verdict = ON_TIME
    elif 850 <= late <= 1300:
        verdict = LATE
    else:
        verdict = f"{late:.0f} ms late"
    return Judgement(verdict, LATE if faulty else ON_TIME)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The ladders of a faulty and of a healthy run, figures, and the cure."""
    chosen = {
        "The fault: the proxy drops the data": result.runs_of(proxy="drop", handshake="data"),
        "Without the proxy": result.runs_of(proxy="off", handshake="data"),
    }
    ladders = [
        path_ladder(topology, COLUMNS, _captures(runs[0], folder), title=title)
        for title, runs in chosen.items()
        if runs
    ]
    files = {"captures": folder / "captures", "result": folder / "result.json"}
    if ladders:
        files["ladder"] = folder / "ladder.svg"
        files["ladder"].write_text(draw_svg(*ladders))
    files["figure"] = folder / "matrix.svg"
    dot_plot(
        {
            f"proxy {_PROXY_LABELS[cell.parameters['proxy']]},\n"
            f"handshake ACK {_HANDSHAKE_LABELS[cell.parameters['handshake']]}": [
                float(run.measurements["request_to_response_ms"])
                for run in result.runs_of(**cell.parameters)
            ]
            for cell in result.cells
        },
        files["figure"],
        title="From request to response, every run",
        quantity="ms (logarithmic)",
    )

    def blocks(width: int) -> list[Any]:
        if len(ladders) == 2:
            return [beside(ladders[0], ladders[1], width), *_cure(result)]
        return [*(draw(ladder, width) for ladder in ladders), *_cure(result)]

    return Presentation(blocks, files)


def _captures(run: RunRecord, folder: Path) -> dict[str, Path]:
    return {name: folder / path for name, path in run.captures.items()}


def _cure(result: Result) -> list[Text]:
    cured = result.runs_of(proxy="cured")
    if not cured:
        return []
    before = float(cured[0].measurements["before_cure_ms"])
    after = float(cured[0].measurements["request_to_response_ms"])
    return [
        Text.assemble(
            ("The cure: ", "bold"),
            (f'lab["{ROUTER}"].function("{FUNCTION}").disable()', "cyan"),
            f"\nin one running lab: {before:.0f} ms before it, {after:.0f} ms after it.",
        )
    ]


@scenario(
    "docomo",
    topology="docomo",
    grid={"proxy": ("drop", "hold", "off"), "handshake": ("data", "bare")},
    extra=({"proxy": "cured", "handshake": "data"},),
    repeat=3,
    judge=judge,
    present=present,
    columns={
        "proxy": "TCP setup proxy",
        "handshake": "handshake ACK",
        "request_to_response_ms": "request to response (ms)",
        "retransmissions": "retransmissions",
    },
    labels={"proxy": _PROXY_LABELS, "handshake": _HANDSHAKE_LABELS},
)
def docomo(
    experiment: Experiment,
    proxy: Proxy = "drop",
    handshake: Handshake = "data",
    path: Path_ = "short",
    response_bytes: Count = 1000,
) -> Measurements:
    """One second late behind a TCP setup proxy that drops data on the handshake's ACK.

    path: `short` is the topology as it is, its gateway's minimum RTO set to one second;
    `mobile-2009` has no such setting but a round trip of 330 ms, from which TCP's ordinary RTO
    comes to the same second (RFC 6298 section 2: SRTT + 4 x RTTVAR = 3 x 330 ms), and, as any TCP
    of that year, no tail loss probe, which would come 100 ms sooner (RFC 8985 section 7).
    """
    topology = _variant(experiment.topology, proxy, path)
    round_trip = topology.round_trip
    measured: Measurements = {}
    with (
        experiment.lab(topology) as lab,
        Responder(lab[SERVER], request=_REQUEST_BYTES, response=response_bytes) as responder,
    ):
        if proxy == "cured":
            ill = exchange(lab[GATEWAY], responder, handshake_data=handshake == "data")
            measured["before_cure_ms"] = ill.last_byte * 1000
            lab[ROUTER].function(FUNCTION).disable()
        found = exchange(lab[GATEWAY], responder, handshake_data=handshake == "data")
    return {
        "request_to_response_ms": found.last_byte * 1000,
        "late_ms": (found.last_byte - round_trip) * 1000,
        "connect_ms": found.connect * 1000,
        "retransmissions": found.retransmissions,
        **measured,
    }


def _variant(topology: Topology, proxy: Proxy, path: Path_) -> Topology:
    options = {"handshake_data": "hold" if proxy == "hold" else "drop"}
    topology = with_function_if(proxy != "off", topology, ROUTER, FUNCTION, **options)
    if path == "mobile-2009":
        topology = with_node(topology, GATEWAY, routes=(), sysctls=_WITHOUT_TAIL_LOSS_PROBE)
        topology = with_link(topology, GATEWAY, ROUTER, delay=_MOBILE_2009_ONE_WAY)
    return topology
