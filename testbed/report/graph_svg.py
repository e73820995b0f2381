"""A network as SVG: nodes in boxes with their addresses, links with what they do to packets."""

from __future__ import annotations

from testbed.report import svg
from testbed.report.graph import NetworkPicture, PictureLink, PictureNode

_MARGIN = 32.0
_HEADER = 64.0
_LINE = 17.0
_PAD = 12.0
_BETWEEN_ROWS = 44.0
_BETWEEN_COLUMNS = 60.0
_CHARACTER = 6.8  # average advance of 12.5 px text
_ROLES = {"host": "answered", "router": "open", "switch": "plain", "middlebox": "retransmission"}


def draw_network_svg(picture: NetworkPicture) -> str:
    """One SVG document, the same for the same picture."""
    return _Drawing(picture).document()


class _Box:
    """Where a node is drawn."""

    def __init__(self, node: PictureNode) -> None:
        self.node = node
        longest = max(len(node.name) + len(node.kind) + 3, *map(len, ("", *node.lines)))
        self.width = longest * _CHARACTER + 2 * _PAD
        self.height = (len(node.lines) + 1) * _LINE + 2 * _PAD
        self.x = self.y = 0.0

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class _Drawing:
    def __init__(self, picture: NetworkPicture) -> None:
        self.picture = picture
        self.boxes = {node.name: _Box(node) for node in picture.nodes}
        self.parts: list[str] = []
        self.width = self.height = 0.0
        self._place()

    def _place(self) -> None:
        """Columns wide enough for their boxes, and for the words between them."""
        columns = [[self.boxes[node.name] for node in column] for column in self.picture.columns]
        gaps = [0.0] * len(columns)
        for link in self.picture.links:
            ends = sorted(self.boxes[name].node.column for name in (link.a, link.b))
            words = max(map(len, (link.ends, *link.lines))) * _CHARACTER
            if ends[0] < ends[1]:
                gaps[ends[0]] = max(gaps[ends[0]], words)
        x = _MARGIN
        for column, gap in zip(columns, gaps, strict=True):
            width = max((box.width for box in column), default=0.0)
            y = _HEADER + _MARGIN
            for box in column:
                box.x, box.y = x + (width - box.width) / 2, y
                y += box.height + _BETWEEN_ROWS
            self.height = max(self.height, y - _BETWEEN_ROWS)
            x += width + gap + _BETWEEN_COLUMNS
        self.width = max(x - _BETWEEN_COLUMNS, len(self.picture.title) * 9 + _MARGIN) + _MARGIN
        for column in columns:  # each in the middle of the height
            used = column[-1].y + column[-1].height if column else 0.0
            for box in column:
                box.y += (self.height - used) / 2
        self.height += _MARGIN

    def document(self) -> str:
        self._text(self.width / 2, 34, self.picture.title, "ink", size=16, bold=True)
        for link in self.picture.links:
            self._line(link)
        self._words_of_links()
        for box in self.boxes.values():
            self._box(box)
        return svg.document(self.picture.title, self.width, self.height, self.parts)

    def _line(self, link: PictureLink) -> None:
        (x1, y1), (x2, y2) = self._facing(link)
        role, dash = ("dropped", ' stroke-dasharray="6 6"') if link.cut else ("line", "")
        self.parts.append(
            f'<line class="s-{role}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke-width="2"{dash}/>'
        )

    def _words_of_links(self) -> None:
        """In the middle of each link, below each other where several join the same nodes."""
        shares: dict[frozenset[str], float] = {}
        for link in self.picture.links:
            (x1, y1), (x2, y2) = self._facing(link)
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            pair = frozenset((link.a, link.b))
            lines = (link.ends, *link.lines)
            top = y - len(lines) * _LINE / 2 + shares.get(pair, 0.0)
            shares[pair] = shares.get(pair, 0.0) + (len(lines) + 0.5) * _LINE
            width = max(map(len, lines)) * _CHARACTER + 8
            self.parts.append(
                f'<rect class="f-page" x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{len(lines) * _LINE:.1f}" rx="4"/>'
            )
            for number, text in enumerate(lines, 1):
                role = "muted" if number == 1 else "dropped" if "cut" in text else "data"
                self._text(x, top + number * _LINE - 4, text, role)

    def _facing(self, link: PictureLink) -> tuple[tuple[float, float], tuple[float, float]]:
        """The sides of the two boxes that look at each other, the left one first."""
        left, right = sorted((self.boxes[link.a], self.boxes[link.b]), key=lambda box: box.x)
        if left.node.column == right.node.column:
            return left.middle, right.middle
        return (left.x + left.width, left.middle[1]), (right.x, right.middle[1])

    def _box(self, box: _Box) -> None:
        role = _ROLES.get(box.node.kind, "open")
        self.parts.append(
            f'<rect class="f-band s-{role}" x="{box.x:.1f}" y="{box.y:.1f}" '
            f'width="{box.width:.1f}" height="{box.height:.1f}" rx="8" stroke-width="2"/>'
        )
        x, y = box.middle[0], box.y + _PAD + 11
        self._text(x, y, f"{box.node.name} · {box.node.kind}", "ink", bold=True)
        for number, line in enumerate(box.node.lines, 1):
            self._text(x, y + number * _LINE, line, "muted")

    def _text(
        self, x: float, y: float, text: str, role: str, *, size: float = 12.5, bold: bool = False
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text class="f-{role}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="middle"{weight}>{svg.clean(text)}</text>'
        )
