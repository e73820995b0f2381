"""What all pictures have in common: colours that suit light and dark pages, and valid XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

# (light, dark) of each role; the letters of a class name say fill or stroke.
_PALETTE = {
    "page": ("#ffffff", "#10151d"),
    "band": ("#f3f4f6", "#1b2330"),
    "ink": ("#111827", "#eef2f7"),
    "muted": ("#6b7280", "#98a2b3"),
    "line": ("#9ca3af", "#5b6676"),
    "plain": ("#4b5563", "#b6c0cd"),
    "open": ("#2563eb", "#7aa7ff"),
    "data": ("#15803d", "#5fd38a"),
    "reset": ("#a21caf", "#e58cf0"),
    "retransmission": ("#b45309", "#fbbf4a"),
    "dropped": ("#dc2626", "#ff7b7b"),
    "lost": ("#dc2626", "#ff7b7b"),
    "answered": ("#0e7490", "#56cfe4"),
}
_FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """One SVG document on a page of its own colour.

    Its elements have a class for each role of the palette: `f-ink` to fill, `s-ink` to stroke.
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{_FONT}">',
            f"<title>{clean(title)}</title>",
            f"<style>{_style_sheet()}</style>",
            f'<rect class="f-page" width="{width:.0f}" height="{height:.0f}" rx="10"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _style_sheet() -> str:
    """A class per role for fill and stroke; the dark ones follow the reader's preference."""

    def rules(shade: int) -> str:
        return "".join(
            f".f-{role}{{fill:{colours[shade]}}}.s-{role}{{stroke:{colours[shade]}}}"
            for role, colours in _PALETTE.items()
        )

    return f"{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"


def clean(text: str) -> str:
    """Text as XML 1.0 can carry it."""
    return escape(_ILLEGAL.sub("\ufffd", text))
