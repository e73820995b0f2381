"""Tables, ladder diagrams and figures, from traces and plans. Pure.

The names below are imported when they are used first: most need rich or matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lazy import lazily

if TYPE_CHECKING:
    from testbed.report.connection_plots import draw_connection, terminal_plots
    from testbed.report.figures import dot_plot
    from testbed.report.ladder import Arrow, ArrowKind, Ladder, Mark, MarkKind, Silence
    from testbed.report.ladder_building import (
        Hop,
        build_ladder,
        ladder_from_files,
        ladder_from_traces,
    )
    from testbed.report.ladder_svg import draw_svg
    from testbed.report.ladder_terminal import Drawing, beside, draw
    from testbed.report.plan_tables import plan_tables
    from testbed.report.story import Episode, Story, connection_story
    from testbed.report.tables import TraceTable, trace_table

__all__ = [
    "Arrow",
    "ArrowKind",
    "Drawing",
    "Episode",
    "Hop",
    "Ladder",
    "Mark",
    "MarkKind",
    "Silence",
    "Story",
    "TraceTable",
    "beside",
    "build_ladder",
    "connection_story",
    "dot_plot",
    "draw",
    "draw_connection",
    "draw_svg",
    "ladder_from_files",
    "ladder_from_traces",
    "plan_tables",
    "terminal_plots",
    "trace_table",
]

_LADDER = "testbed.report.ladder"
_BUILDING = "testbed.report.ladder_building"
_TERMINAL = "testbed.report.ladder_terminal"
_TABLES = "testbed.report.tables"
_STORY = "testbed.report.story"
_PLOTS = "testbed.report.connection_plots"

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Arrow": _LADDER,
        "ArrowKind": _LADDER,
        "Drawing": _TERMINAL,
        "Episode": _STORY,
        "Hop": _BUILDING,
        "Ladder": _LADDER,
        "Mark": _LADDER,
        "MarkKind": _LADDER,
        "Silence": _LADDER,
        "Story": _STORY,
        "TraceTable": _TABLES,
        "beside": _TERMINAL,
        "build_ladder": _BUILDING,
        "connection_story": _STORY,
        "dot_plot": "testbed.report.figures",
        "draw": _TERMINAL,
        "draw_connection": _PLOTS,
        "draw_svg": "testbed.report.ladder_svg",
        "ladder_from_files": _BUILDING,
        "ladder_from_traces": _BUILDING,
        "plan_tables": "testbed.report.plan_tables",
        "terminal_plots": _PLOTS,
        "trace_table": _TABLES,
    },
)
