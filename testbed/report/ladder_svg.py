"""A ladder diagram as SVG: a picture for a page, readable on light and dark ones.

Every mark is told in words as well as in colour. Time runs downwards: in proportion where a hop
was captured at both ends, evenly spaced otherwise, and broken where nothing happens for long.
"""

from __future__ import annotations

import math

from testbed.report import svg
from testbed.report.ladder import AT_NODE, Arrow, Ladder, Mark, MarkKind, Silence
from testbed.report.timescale import TimeScale
from testbed.report.wording import clock, count

_GUTTER = 96.0
_COLUMN_GAP = 310.0
_HEADER = 92.0
_FOOTER = 34.0
_BETWEEN = 28.0
_READING = 13.0  # the height that a clock reading needs
_CHARACTER = 7.5  # average advance of bold 12.5 px text, for the width of boxes


def draw_svg(*ladders: Ladder, windows: bool = False) -> str:
    """One SVG document with the ladders side by side; `windows`: with the windows offered."""
    pictures = [_Picture(ladder, windows) for ladder in ladders]
    width = sum(picture.width for picture in pictures) + _BETWEEN * (len(pictures) - 1)
    height = max((picture.height for picture in pictures), default=0.0)
    title = ", ".join(ladder.title for ladder in ladders)
    parts: list[str] = []
    left = 0.0
    for picture in pictures:
        parts += [f'<g transform="translate({left:.0f},0)">', *picture.parts, "</g>"]
        left += picture.width + _BETWEEN
    return svg.document(title, width, height, parts)


class _Picture:
    """One ladder: its size and its elements."""

    def __init__(self, ladder: Ladder, windows: bool) -> None:
        self.ladder = ladder
        self.windows = windows
        self.longest = ladder.longest
        self.x = {name: _GUTTER + i * _COLUMN_GAP for i, name in enumerate(ladder.columns)}
        self.width = 2 * _GUTTER + (len(ladder.columns) - 1) * _COLUMN_GAP
        self.scale = TimeScale(ladder, top=_HEADER + 34)
        self.bottom = self.scale.bottom + 26
        self.height = self.bottom + (_FOOTER if ladder.omitted else 14)
        self.parts: list[str] = []
        self._readings: tuple[list[tuple[float, float]], ...] = ([], [])
        self._frame()
        for row in ladder.rows:
            if isinstance(row, Silence):
                self._silence(row)
        for row in ladder.rows:
            if isinstance(row, Arrow):
                self._arrow(row)
        self._margins()
        if ladder.omitted:
            text = f"… {count(ladder.omitted, 'more segment')} left out"
            self._text(self.width / 2, self.height - 12, text, "muted", size=12)

    def _frame(self) -> None:
        """Title, column heads and lifelines."""
        title = " · ".join((self.ladder.title, *self.ladder.notes))
        self._text(self.width / 2, 30, title, "ink", size=16, bold=True)
        for name, x in self.x.items():
            self._line(x, _HEADER - 8, x, self.bottom, "line", width=1.5)
            box = max(len(name) * 8.2 + 28, 90)
            self.parts.append(
                f'<rect class="f-band s-line" x="{x - box / 2:.1f}" y="{_HEADER - 40:.1f}" '
                f'width="{box:.1f}" height="32" rx="8"/>'
            )
            self._text(x, _HEADER - 19, name, "ink", size=14, bold=True)

    def _silence(self, row: Silence) -> None:
        """A band across the picture in which the lifelines are broken."""
        top, bottom = self.scale.silence[row.time]
        first, last = min(self.x.values()), max(self.x.values())
        self.parts.append(
            f'<rect class="f-band" x="{first - 60:.1f}" y="{top:.1f}" '
            f'width="{last - first + 120:.1f}" height="{bottom - top:.1f}" rx="8"/>'
        )
        for x in self.x.values():
            self._line(x, top, x, bottom, "line", width=2, dash="1 6")
        middle = (first + last) / 2 if len(self.x) % 2 == 0 else first + _COLUMN_GAP / 2
        self._text(middle, (top + bottom) / 2 + 6, f"⋮ {row.text}", "ink", size=17, bold=True)

    def _arrow(self, row: Arrow) -> None:
        start, end = self.x[row.source], self.x[row.target]
        top, bottom = self.scale.ends(row)
        role = row.role
        kinds = {mark.kind for mark in row.marks}
        if MarkKind.LOST in kinds:  # the arrow ends on its way
            end, bottom = start + 0.8 * (end - start), top + 0.8 * (bottom - top)
        self._line(start, top, end, bottom, role, width=2.2 if row.length else 1.7)
        if kinds & {MarkKind.LOST, MarkKind.DROPPED}:
            self._cross(end, bottom)
        else:
            self._head(start, top, end, bottom, role)
        self._label(row, (start + end) / 2, (top + bottom) / 2 - 7, role)
        if row.sent is not None:
            self._time(row.source, row.sent, top)
        if row.received is not None and MarkKind.LOST not in kinds:
            self._time(row.target, row.received, bottom)
        for mark in row.marks:
            if mark.kind is MarkKind.DROPPED:
                self._beside(mark, end, bottom, forward=end > start)
            elif mark.kind is MarkKind.ANSWERED:
                self._beside(mark, start, top, forward=end < start)

    def _label(self, row: Arrow, x: float, y: float, role: str) -> None:
        """Label, marks of the arrow itself, and sequence numbers, on one line above it."""
        marks = [mark.text for mark in row.marks if mark.kind not in AT_NODE]
        words = f'<tspan font-weight="600">{svg.clean(row.label)}</tspan>'
        for text in marks:
            words += (
                f'<tspan dx="7" font-weight="600" font-style="italic">{svg.clean(text)}</tspan>'
            )
        numbers = row.numbers(windows=self.windows)
        words += f'<tspan class="f-muted" dx="8" font-size="10.5">{numbers}</tspan>'
        self.parts.append(
            f'<text class="f-{role}" x="{x:.1f}" y="{y:.1f}" font-size="12.5" '
            f'text-anchor="middle">{words}</text>'
        )

    def _beside(self, mark: Mark, x: float, y: float, *, forward: bool) -> None:
        """A pill with the text of a mark, next to the node that it is about."""
        width = len(mark.text) * _CHARACTER + 22
        left = x + 14 if forward else x - 14 - width
        self.parts.append(
            f'<rect class="f-{mark.kind}" x="{left:.1f}" y="{y - 11:.1f}" '
            f'width="{width:.1f}" height="22" rx="11"/>'
        )
        self._text(left + width / 2, y + 4.5, mark.text, "page", size=12.5, bold=True)

    def _time(self, column: str, time: float, y: float) -> None:
        """A clock reading for the margin, and a dot where it was taken."""
        x = self.x[column]
        self.parts.append(f'<circle class="f-ink" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')
        self._readings[column == self.ladder.columns[-1]].append((y, time))

    def _margins(self) -> None:
        """The clock readings on either side; of those too close to be read the first is kept."""
        places = ((min(self.x.values()) - 12, "end"), (max(self.x.values()) + 12, "start"))
        for (at, anchor), readings in zip(places, self._readings, strict=True):
            taken = -_READING
            for y, time in sorted(readings):
                if y - taken < _READING:
                    continue
                taken = y
                self._text(at, y + 4, clock(time, self.longest), "muted", size=11.5, anchor=anchor)

    def _head(self, x1: float, y1: float, x2: float, y2: float, role: str) -> None:
        angle = math.atan2(y2 - y1, x2 - x1)
        points = [(x2, y2)]
        for turn in (0.38, -0.38):
            points.append((x2 - 11 * math.cos(angle + turn), y2 - 11 * math.sin(angle + turn)))
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon class="f-{role}" points="{text}"/>')

    def _cross(self, x: float, y: float) -> None:
        for slant in (7, -7):
            self._line(x - 7, y - slant, x + 7, y + slant, "dropped", width=3.6)

    def _line(
        self, x1: float, y1: float, x2: float, y2: float, role: str, *, width: float, dash: str = ""
    ) -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line class="s-{role}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke-width="{width}" stroke-linecap="round"{dashes}/>'
        )

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        role: str,
        *,
        size: float,
        bold: bool = False,
        anchor: str = "middle",
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text class="f-{role}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}"{weight}>{svg.clean(text)}</text>'
        )
