"""The picture: valid XML, everything on it, nothing outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from testbed.report import Arrow, Hop, Ladder, build_ladder, ladder_from_files
from testbed.report.ladder_svg import draw_svg
from testbed.report.timescale import TimeScale
from testbed.trace import read_trace

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("gateway", "router", "server")


def texts(document: str) -> list[str]:
    root = ElementTree.fromstring(document)
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


@pytest.fixture
def document(faulty):
    return draw_svg(ladder_from_files(faulty, names=NAMES, title="setup proxy on"))


def test_everything_that_matters_is_there_in_words(document):
    words = texts(document)
    for expected in (
        "setup proxy on", *NAMES, "answered by router", "dropped by router",
        "⋮ 1.201 s of silence", "20.2 ms", "1,221.4 ms",
    ):  # fmt: skip
        assert expected in words
    assert sum("retransmission" in text for text in words) == 2


def test_everything_lies_within_the_picture(document):
    root = ElementTree.fromstring(document)
    width, height = float(root.get("width")), float(root.get("height"))
    for line in root.iter(f"{SVG}line"):
        assert 0 <= float(line.get("x1")) <= width and 0 <= float(line.get("x2")) <= width
        assert 0 <= float(line.get("y1")) <= height and 0 <= float(line.get("y2")) <= height


def test_dark_and_light_pages_have_their_colours(document):
    used = set(re.findall(r'class="([^"]*)"', document))
    for name in {name for names in used for name in names.split()}:
        assert document.count(f".{name}{{") == 2
    assert "prefers-color-scheme:dark" in document


def test_hostile_names_and_titles_stay_text(faulty):
    names = ("<script>&", '"quoted"', "bell\x07\ud800")
    document = draw_svg(ladder_from_files(faulty, names=names, title="</svg>\0"))
    words = texts(document)
    assert {"<script>&", '"quoted"', "bell\ufffd\ufffd", "</svg>\ufffd"} <= set(words)
    document.encode()


def test_two_ladders_stand_side_by_side(faulty, healthy):
    ladders = [ladder_from_files(files, names=NAMES) for files in (faulty, healthy)]
    width = [float(ElementTree.fromstring(draw_svg(one)).get("width")) for one in ladders]
    both = ElementTree.fromstring(draw_svg(*ladders))
    assert float(both.get("width")) > sum(width)


def test_an_empty_ladder_can_be_drawn():
    assert texts(draw_svg(Ladder("nothing", ("a", "b"), (), omitted=1))) == [
        "nothing", "a", "b", "… 1 more segment left out"
    ]  # fmt: skip


def test_arrows_slope_by_the_time_that_both_ends_tell(recording):
    near, far = recording("near.pcap"), recording("far.pcap")
    for number, latency in enumerate((5, 30)):
        near.client(100 * number, "PA", 1 + number, 1, b"x")
        far.client(100 * number + latency, "PA", 1 + number, 1, b"x")
    hop = Hop("a", "b", read_trace(near.write()), read_trace(far.write()))
    ladder = build_ladder(("a", "b"), [hop])
    scale = TimeScale(ladder, top=0)
    short, long = (scale.ends(row) for row in ladder.rows if isinstance(row, Arrow))
    assert 0 < short[1] - short[0] < long[1] - long[0]
    assert long[0] > short[0]


def test_rows_never_go_up_and_arrows_of_one_hop_keep_their_distance(faulty):
    ladder = ladder_from_files(faulty, names=NAMES)
    scale = TimeScale(ladder, top=0)
    last: dict[frozenset[str], float] = {}
    for row in ladder.rows:
        if isinstance(row, Arrow):
            top, bottom = scale.ends(row)
            hop = frozenset((row.source, row.target))
            assert top < bottom <= scale.bottom
            assert (top + bottom) / 2 - last.get(hop, -100) >= 25
            last[hop] = (top + bottom) / 2
    for begin, end in scale.silence.values():
        assert begin < end
