from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from testbed.errors import ScenarioError
from testbed.kernel.seeds import derived
from testbed.scenarios.replaying import asked_of, compare

NAME = Path("captures") / "1" / "a-eth0.pcap"


def result(folder: Path, *packets: tuple[int, bytes], told: str = "{}") -> Path:
    """A folder of results with one capture; times in us."""
    file = folder / NAME
    file.parent.mkdir(parents=True)
    (folder / "result.json").write_text(told)
    records = b"".join(
        struct.pack("<IIII", 0, time, len(data), len(data)) + data for time, data in packets
    )
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    return folder


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([(1, b"abc"), (5, b"def")], "The same, byte for byte"),
        ([(1, b"abc"), (6, b"def")], r"packet 2: the same bytes \+1000 ns later"),
        ([(1, b"abc"), (5, b"dgg")], "packet 2: 3 and 3 bytes, of which 2 differ"),
        ([(1, b"abc")], "packet 2: the replay has ended before"),
        ([(1, b"abc"), (5, b"def"), (6, b"x")], "packet 3: it has ended before"),
    ],
)
def test_the_first_packet_that_differs_is_told(tmp_path: Path, packets, told):
    before = result(tmp_path / "before", (1, b"abc"), (5, b"def"))
    found = compare(before, result(tmp_path / "after", *packets))
    assert found.equal == told.startswith("The same")
    assert re.search(told, found.text)


def test_a_result_that_differs_in_its_figures_alone_is_not_the_same(tmp_path: Path):
    found = compare(result(tmp_path / "a"), result(tmp_path / "b", told="[]"))
    assert not found.equal
    assert "not result.json" in found.text


def test_a_missing_capture_is_told(tmp_path: Path):
    before, after = result(tmp_path / "a"), result(tmp_path / "b")
    (after / NAME).unlink()
    assert str(NAME) in compare(before, after).text


def test_what_is_no_result_cannot_be_replayed(tmp_path: Path):
    with pytest.raises(ScenarioError, match=r"There is no result\.json in"):
        asked_of(tmp_path)
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ScenarioError, match="is not the result"):
        asked_of(tmp_path)


def test_seeds_follow_from_one_and_differ_by_purpose():
    assert derived(1, "boot", 0) == derived(1, "boot", 0)
    several = {derived(seed, "boot", number) for seed in range(10) for number in range(10)}
    assert len(several) == 100
    assert all(0 <= one < 1 << 53 for one in several)
