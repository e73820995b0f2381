"""The ladder picture in a real browser: everything that is written can be read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from testbed.report import Arrow, ArrowKind, Ladder, Mark, MarkKind, Silence, draw_svg

_CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    _CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)

_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=2000",
]

# Every text of the picture with its box, and the picture's own, in pixels.
_MEASURE = """
<script>
const svg = document.querySelector("svg");
const box = (one) => {
  const b = one.getBoundingClientRect();
  return [b.left, b.top, b.right, b.bottom];
};
const texts = [...svg.querySelectorAll("text")].map((one) => ({
  text: one.textContent, box: box(one),
}));
const found = { picture: box(svg), texts };
document.body.innerHTML = "<pre id=found></pre>";
document.getElementById("found").textContent = JSON.stringify(found);
</script>
"""


def arrow(time: float, source: str, target: str, label: str, *marks: Mark) -> Arrow:
    return Arrow(
        time=time,
        source=source,
        target=target,
        kind=ArrowKind.PLAIN,
        label=label,
        seq=1,
        ack=1,
        length=0,
        journey=int(time),
        sent=time,
        received=time + 10,
        marks=marks,
    )


LADDER = Ladder(
    title="A <title> & its \u201cquotes\u201d",
    columns=("gateway", "router", "server"),
    rows=(
        arrow(0, "gateway", "router", "SYN"),
        arrow(20, "router", "gateway", "SYN ACK", Mark(MarkKind.ANSWERED, "answered by router")),
        arrow(31, "gateway", "router", "ACK + 400 B", Mark(MarkKind.DROPPED, "dropped by router")),
        Silence(41, 1030.0),
        arrow(
            1060,
            "gateway",
            "router",
            "ACK + 400 B",
            Mark(MarkKind.RETRANSMISSION, "retransmission"),
        ),
    ),
)


def measure(tmp_path: Path, *ladders: Ladder) -> dict:
    page = tmp_path / "page.html"
    svg = draw_svg(*ladders)
    page.write_text(
        f"<!doctype html><meta charset=utf-8><body>{svg[svg.index('<svg') :]}{_MEASURE}"
    )
    options = [*_QUIET, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [_CHROMIUM, *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    return json.loads(unescape(found[1]))


def test_everything_that_matters_is_written_inside_the_picture(tmp_path):
    found = measure(tmp_path, LADDER)
    left, top, right, bottom = found["picture"]
    assert right - left > 300 and bottom - top > 200
    written = " ".join(one["text"] for one in found["texts"])
    for words in (LADDER.title, *LADDER.columns, "dropped by router", "1.030 s of silence"):
        assert words in written
    for one in found["texts"]:
        a, b, c, d = one["box"]
        assert left <= a < c <= right and top <= b < d <= bottom, one


def test_no_text_lies_on_another(tmp_path):
    texts = measure(tmp_path, LADDER, LADDER)["texts"]
    assert len(texts) > 20
    for number, one in enumerate(texts):
        for other in texts[:number]:
            a, b = one["box"], other["box"]
            wide = min(a[2], b[2]) - max(a[0], b[0])
            high = min(a[3], b[3]) - max(a[1], b[1])
            assert wide < 1 or high < 3, (one, other)
