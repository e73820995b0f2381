"""A network as text: a tree of nodes and links, from one end of the network to the others."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.report.graph import NetworkPicture, PictureLink, PictureNode


def draw_network(picture: NetworkPicture, *, ascii_only: bool = False) -> str:
    """The picture as lines of text, the same for the same picture.

    A link that closes a circle leads to a node that stands elsewhere, which is said there.
    """
    return "\n".join([picture.title, *_Tree(picture, ascii_only).lines()])


class _Tree:
    def __init__(self, picture: NetworkPicture, ascii_only: bool) -> None:
        self._nodes = {node.name: node for node in picture.nodes}
        self._links: dict[str, list[PictureLink]] = {node.name: [] for node in picture.nodes}
        for link in picture.links:
            self._links[link.a].append(link)
            self._links[link.b].append(link)
        self._drawn: set[str] = set()
        self._told: set[int] = set()
        self._branch, self._last, self._bar = ("|- ", "`- ", "|  ") if ascii_only else (
            "├─ ", "└─ ", "│  ")  # fmt: skip

    def lines(self) -> Iterator[str]:
        for node in sorted(self._nodes.values(), key=lambda node: (node.column, node.row)):
            if node.name not in self._drawn:
                yield ""
                yield from self._from(node)

    def _from(self, root: PictureNode) -> Iterator[str]:
        """The node, and all that can be reached from it: depth first, however deep."""
        self._drawn.add(root.name)
        yield self._title(root)
        stack = [(root, "", self._open(root))]
        yield from (f"{self._bar if stack[0][2] else '   '}{line}" for line in root.lines)
        while stack:
            node, indent, links = stack[-1]
            if not links:
                stack.pop()
                continue
            link = links.pop(0)
            if id(link) in self._told:
                continue
            self._told.add(id(link))
            other = self._nodes[link.b if link.a == node.name else link.a]
            links[:] = [one for one in links if id(one) not in self._told]
            seen = other.name in self._drawn
            self._drawn.add(other.name)
            below = [] if seen else self._open(other)
            # Circles further down may yet tell of the links that are left here.
            more = bool(links)
            yield f"{indent}{self._last if not more else self._branch}{_words(link, node.name)}"
            deeper = indent + ("   " if not more else self._bar)
            yield f"{deeper}{self._title(other)}{' (above)' if seen else ''}"
            if not seen:
                bar = self._bar if below else "   "
                yield from (f"{deeper}{bar}{line}" for line in other.lines)
                stack.append((other, deeper, below))

    def _open(self, node: PictureNode) -> list[PictureLink]:
        return [link for link in self._links[node.name] if id(link) not in self._told]

    def _title(self, node: PictureNode) -> str:
        return f"{node.name} ({node.kind})"


def _words(link: PictureLink, start: str) -> str:
    ends = link.ends if link.a == start else " - ".join(reversed(link.ends.split(" - ")))
    return f"{ends}  {'; '.join(link.lines)}".rstrip()
