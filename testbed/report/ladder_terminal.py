"""A ladder diagram as text of a given width, in colour where the terminal has it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby, zip_longest

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from testbed.report.ladder import AT_NODE, Arrow, ArrowKind, Ladder, Mark, MarkKind, Silence
from testbed.report.wording import clock, count

DEFAULT_WIDTH = 100
MINIMUM_GAP = 24
"""Characters between two columns below which an arrow cannot carry its label."""

_TIME_WIDTH = 13
_BESIDE_MARGIN = 4
_ASCII = str.maketrans({"─": "-", "│": "|", "▶": ">", "◀": "<", "✗": "X", "⋮": ":", "…": "~",
                        "╌": "-", "↻": "@", "├": "|", "┤": "|"})  # fmt: skip
_STYLE: dict[str, str] = {
    MarkKind.RETRANSMISSION: "bold yellow",
    MarkKind.DROPPED: "bold red",
    MarkKind.LOST: "bold red",
    MarkKind.ANSWERED: "bold cyan",
    ArrowKind.RESET: "magenta",
    ArrowKind.OPEN: "cyan",
    ArrowKind.DATA: "green",
    ArrowKind.PLAIN: "",
}
_Cell = tuple[str, str]  # a character and its style


class Drawing:
    """Lines of styled text: print it with rich, or take `str()` of it."""

    def __init__(self, lines: Sequence[Text]) -> None:
        self.lines = tuple(lines)

    @property
    def width(self) -> int:
        return max((line.cell_len for line in self.lines), default=0)

    def __str__(self) -> str:
        return "\n".join(line.plain.rstrip() for line in self.lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines


def draw(
    ladder: Ladder, width: int = DEFAULT_WIDTH, *, ascii_only: bool = False, windows: bool = False
) -> Drawing:
    """Draw a ladder `width` characters wide, or as wide as its columns need.

    windows: with the window that each segment offers, where there is room.
    """
    canvas = _Canvas(ladder, width, windows)
    lines = [Text(ladder.title, style="bold")] if ladder.title else []
    lines += [Text(f"({note})", style="dim") for note in ladder.notes]
    lines.append(canvas.header())
    for row in ladder.rows:
        lines += canvas.silence(row) if isinstance(row, Silence) else canvas.arrow(row)
    if ladder.omitted:
        lines.append(canvas.remark(f"… {count(ladder.omitted, 'more segment')} left out"))
    return Drawing([_to_ascii(line) for line in lines] if ascii_only else lines)


def beside(
    left: Ladder, right: Ladder, width: int = DEFAULT_WIDTH, *, ascii_only: bool = False
) -> Drawing:
    """Two ladders side by side where `width` allows, else one below the other."""
    half = (width - _BESIDE_MARGIN) // 2
    if max(_needed_width(left), _needed_width(right)) > half:
        first = draw(left, width, ascii_only=ascii_only)
        second = draw(right, width, ascii_only=ascii_only)
        return Drawing([*first.lines, Text(), *second.lines])
    pair = [draw(ladder, half, ascii_only=ascii_only).lines for ladder in (left, right)]
    lines = []
    for one, other in zip_longest(*pair, fillvalue=Text()):
        padded = one.copy()
        padded.pad_right(half + _BESIDE_MARGIN - one.cell_len)
        lines.append(padded + other)
    return Drawing(lines)


def _needed_width(ladder: Ladder) -> int:
    """The width at which every label and every mark can be read in full."""
    gaps = len(ladder.columns) - 1
    gap = MINIMUM_GAP
    for row in ladder.rows:
        if isinstance(row, Arrow):
            gap = max(gap, len(_label(row)) + 7, *(len(mark.text) + 4 for mark in row.marks))
    ends = len(ladder.columns[0]) // 2 + len(ladder.columns[-1]) // 2
    return _TIME_WIDTH + ends + gaps * (gap + 1)


class _Canvas:
    """Where the columns stand, and how one row is drawn between them."""

    def __init__(self, ladder: Ladder, width: int, windows: bool) -> None:
        columns = ladder.columns
        gaps = len(columns) - 1
        left = _TIME_WIDTH + max(len(columns[0]) // 2, 1)
        right = width - 1 - len(columns[-1]) // 2
        step = max((right - left) // gaps, MINIMUM_GAP + 1)
        self.columns = tuple(columns)
        self.clock = partial(clock, longest=ladder.longest)
        self.windows = windows
        self.at = {name: left + index * step for index, name in enumerate(columns)}
        self.step = step
        self.width = max(width, left + gaps * step + 1 + (len(columns[-1]) + 1) // 2)

    def header(self) -> Text:
        cells = self._blank()
        _put(cells, 0, "time".rjust(_TIME_WIDTH - 3), "dim")
        for name in self.columns:
            shown = _fit(name, self.step - 2)
            _put(cells, max(0, self.at[name] - len(shown) // 2), shown, "bold")
        return _text(cells)

    def silence(self, row: Silence) -> list[Text]:
        """A broken time axis: three lines, so that nobody overlooks it."""
        lines = []
        for text in ("", row.text, ""):
            cells = self._blank()
            for at in self.at.values():
                _put(cells, at, "⋮", "dim" if not text else "bold")
            _put(cells, self.at[self.columns[0]] + 2, text, "bold reverse" if text else "")
            lines.append(_text(cells))
        return lines

    def arrow(self, row: Arrow) -> list[Text]:
        cells = self._lifelines()
        _put(cells, 0, self.clock(row.time).rjust(_TIME_WIDTH - 3), "dim")
        start, end = self.at[row.source], self.at[row.target]
        style = _STYLE[row.role]
        self._line(cells, start, end, row, style)
        pieces, leftover = self._pieces(row, style)
        content = "".join(text for text, _ in pieces)
        at = min(start, end) + (self.step - len(content)) // 2 + 1
        for text, text_style in pieces:
            _put(cells, at, text, text_style)
            at += len(text)
        for mark in row.marks:
            if mark.kind in AT_NODE:
                self._beside(cells, row, mark)
        lines = [_text(cells)]
        for mark in leftover:
            below = self._lifelines()
            shown = _fit(mark.text, self.step - 3)
            at = min(start, end) + (self.step - len(shown)) // 2 + 1
            _put(below, at, shown, _STYLE[mark.kind])
            lines.append(_text(below))
        return lines

    def remark(self, text: str) -> Text:
        cells = self._blank()
        _put(cells, self.at[self.columns[0]], text, "dim")
        return _text(cells)

    def _line(self, cells: list[_Cell], start: int, end: int, row: Arrow, style: str) -> None:
        """The shaft from lifeline to lifeline, and the head: an arrow, or a cross."""
        low, high = sorted((start, end))
        _put(cells, low + 1, "─" * (high - low - 1), style)
        _put(cells, start, "├" if start < end else "┤", style)
        inward = 1 if start < end else -1
        kinds = {mark.kind for mark in row.marks}
        if MarkKind.LOST in kinds:
            _put(cells, end - inward, " ", "")
            _put(cells, end - 2 * inward, "✗", _STYLE[MarkKind.LOST])
        elif MarkKind.DROPPED in kinds:
            _put(cells, end, "✗", _STYLE[MarkKind.DROPPED])
        else:
            _put(cells, end - inward, "▶" if start < end else "◀", style)

    def _pieces(self, row: Arrow, style: str) -> tuple[list[tuple[str, str]], list[Mark]]:
        """What is written on the shaft, and the marks that did not find room on it."""
        room = self.step - 5
        label = _fit(_label(row), room - 2)
        pieces = [(f" {label} ", style)]
        used = len(label) + 2
        leftover = []
        for mark in row.marks:
            if mark.kind in AT_NODE:
                continue
            if used + len(mark.text) + 1 <= room:
                pieces.append((f"{mark.text} ", _STYLE[mark.kind]))
                used += len(mark.text) + 1
            else:
                leftover.append(mark)
        numbers = row.numbers(windows=self.windows)
        if numbers and used + len(numbers) + 1 <= room and not row.marks:
            pieces.append((f"{numbers} ", "dim"))
        return pieces, leftover

    def _beside(self, cells: list[_Cell], row: Arrow, mark: Mark) -> None:
        """Write a mark beside its node, on the side where this row has no arrow."""
        rightward = self.at[row.source] < self.at[row.target]
        dropped = mark.kind is MarkKind.DROPPED
        at = self.at[row.target if dropped else row.source]
        shown = _fit(mark.text, self.step - 4)
        if rightward == dropped:
            _put(cells, at + 2, shown, _STYLE[mark.kind])
        else:
            _put(cells, at - 1 - len(shown), shown, _STYLE[mark.kind])

    def _blank(self) -> list[_Cell]:
        return [(" ", "")] * self.width

    def _lifelines(self) -> list[_Cell]:
        cells = self._blank()
        for at in self.at.values():
            cells[at] = ("│", "dim")
        return cells


def _label(row: Arrow) -> str:
    retransmitted = any(mark.kind is MarkKind.RETRANSMISSION for mark in row.marks)
    return f"↻ {row.label}" if retransmitted else row.label


def _put(cells: list[_Cell], at: int, text: str, style: str) -> None:
    for offset, character in enumerate(text):
        if 0 <= at + offset < len(cells):
            cells[at + offset] = (character, style)


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def _text(cells: Sequence[_Cell]) -> Text:
    line = Text(no_wrap=True)
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        line.append("".join(character for character, _ in run), style=style or None)
    return line


def _to_ascii(line: Text) -> Text:
    plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return Text(plain, style=line.style, spans=line.spans, no_wrap=True)
