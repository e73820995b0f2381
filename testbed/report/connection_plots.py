"""Plots of one connection: sequence numbers, round trips, flight and window, goodput."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from testbed.errors import TraceError
from testbed.report.braille import braille_plot
from testbed.trace import Connection, SegmentClass
from testbed.trace.analysis.metrics import (
    TimeSeries,
    bytes_in_flight,
    goodput,
    receive_window,
    rtt_by_sequence,
    rtt_by_time_stamps,
    timeouts,
)

FORMATS: Final = ("png", "svg", "pdf")
_MOST_POINTS: Final = 4000
_AGAIN: Final = (SegmentClass.RETRANSMISSION, SegmentClass.FILLS_HOLE)


class Curve(msgspec.Struct, frozen=True):
    """A quantity over time: seconds since the first segment of the connection, and values."""

    name: str
    unit: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]


def busier_side(connection: Connection) -> int:
    """The side that sent more bytes: 0 the initiator, 1 the responder."""
    return int(connection.by_responder.unique_bytes > connection.by_initiator.unique_bytes)


def connection_curves(connection: Connection, sender: int) -> tuple[Curve, ...]:
    """All that the plots show of what `sender` sent, as numbers."""
    analysis = connection.analysis
    progress, time = analysis.progress, analysis.table.time
    data = (progress.side == sender) & (progress.spans > 0) & ~progress.strays
    again = np.isin(analysis.classes, _AGAIN) & data
    acks = (progress.side != sender) & progress.has_ack
    window = receive_window(analysis, 1 - sender)
    edges = acks & (progress.window >= 0)
    found = [
        ("sent", "bytes", TimeSeries(time[data & ~again], progress.end[data & ~again]), 1.0),
        ("sent again", "bytes", TimeSeries(time[again], progress.end[again]), 1.0),
        ("acknowledged", "bytes", TimeSeries(time[acks], progress.acknowledged[acks]), 1.0),
        ("window edge", "bytes",
         TimeSeries(time[edges], progress.acknowledged[edges] + progress.window[edges]), 1.0),
        ("round trip", "ms", rtt_by_sequence(analysis, sender), 1e6),
        ("round trip by time stamps", "ms", rtt_by_time_stamps(analysis, sender), 1e6),
        ("in flight", "bytes", bytes_in_flight(analysis, sender), 1.0),
        ("goodput", "Mbit/s", goodput(analysis, sender), 1e6),
    ]  # fmt: skip
    if window is not None:
        found.insert(-1, ("window", "bytes", window, 1.0))
    return tuple(
        Curve(
            name,
            unit,
            tuple(((series.time - connection.start) / 1e9).tolist()),
            tuple((series.value / divisor).tolist()),
        )
        for name, unit, series, divisor in found
    )


def timeouts_data(connection: Connection, sender: int) -> list[dict[str, float]]:
    """Each time-out: how long the sender waited, and what RFC 6298 says; ms."""
    time = connection.analysis.table.time
    return [
        {
            "at_ms": (int(time[one.row]) - connection.start) / 1e6,
            "waited_ms": one.waited / 1e6,
            "rfc6298_ms": one.expected / 1e6,
            "backoff": one.backoff,
        }
        for one in timeouts(connection.analysis, sender)
    ]


def terminal_plots(connection: Connection, *, width: int = 72) -> str:
    """The plots of the busier side, of braille dots."""
    sender = busier_side(connection)
    who = ("initiator", "responder")[sender]
    curves = {one.name: _thinned(one) for one in connection_curves(connection, sender)}
    panels = (
        (
            f"sequence numbers of the {who}: sent, and acknowledged (bytes)",
            ("sent", "sent again", "acknowledged"),
        ),
        ("round trip (ms)", ("round trip",)),
        ("in flight (bytes)", ("in flight",)),
        ("goodput (Mbit/s)", ("goodput",)),
    )  # fmt: skip
    return "\n\n".join(
        braille_plot(
            [(curves[name].seconds, curves[name].values) for name in names],
            title=title,
            width=width,
            height=14 if index == 0 else 6,
        )
        for index, (title, names) in enumerate(panels)
    )


def draw_connection(connection: Connection, path: Path) -> None:
    """The plots of the busier side in a file; its suffix is the format.

    The time-sequence plot is in the manner of tcptrace: data, what was sent again, the line of
    acknowledgments below it and the edge of the window above it.
    Raises TraceError for a format that is none of `FORMATS`, and where the file cannot be written.
    """
    if path.suffix.lstrip(".") not in FORMATS:
        raise TraceError(f"{path}: name a file that ends in .{', .'.join(FORMATS)}.")
    from matplotlib.figure import Figure  # takes most of a second, which only figures need

    sender = busier_side(connection)
    curves = {one.name: _thinned(one) for one in connection_curves(connection, sender)}
    figure = Figure(figsize=(10, 11), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(3, 1, 1, 1))
    source = (connection.initiator, connection.responder)
    panels[0].set_title(f"{source[sender]} to {source[1 - sender]}", loc="left", fontsize="medium")
    lines = ("acknowledged", "steps"), ("window edge", "steps")
    _draw(panels[0], curves, ("sent", "."), ("sent again", "x"), *lines)
    _draw(panels[1], curves, ("round trip", "."), ("round trip by time stamps", "."))
    _draw(panels[2], curves, ("in flight", "steps"), ("window", "steps"))
    _draw(panels[3], curves, ("goodput", "-"))
    top = max(curves["sent"].values, default=1.0)
    panels[0].set_ylim(top=top * 1.15)
    panels[3].set_xlabel("s")
    try:
        figure.savefig(path)
    except OSError as error:
        reason = error.strerror
        raise TraceError(f"{path}: cannot be written: {reason}. Name another file.") from None


_COLOURS: Final = {"sent again": "#c22f2f", "acknowledged": "#3b8a3b", "window edge": "#b58b00"}


def _draw(axes: Any, curves: dict[str, Curve], *parts: tuple[str, str]) -> None:
    for name, style in parts:
        curve = curves.get(name)
        if curve is None or not curve.seconds:
            continue
        colour = _COLOURS.get(name)
        if style == "steps":
            axes.step(curve.seconds, curve.values, where="post", label=name, color=colour, lw=1)
        else:
            line = "-" if style == "-" else ""
            axes.plot(
                curve.seconds, curve.values, linestyle=line, label=name, color=colour,
                marker="" if line else style, markersize=3,
            )  # fmt: skip
        axes.set_ylabel(curve.unit)
    if axes.lines:
        axes.legend(loc="upper left", fontsize="small")
    axes.grid(alpha=0.25)


def _thinned(curve: Curve) -> Curve:
    series = TimeSeries(np.array(curve.seconds), np.array(curve.values)).thinned(_MOST_POINTS)
    return Curve(curve.name, curve.unit, tuple(series.time.tolist()), tuple(series.value.tolist()))
