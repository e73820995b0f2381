"""The table for other programs: Arrow, Parquet, and where they are installed pandas and polars."""

from __future__ import annotations

import sys

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.errors import TraceError


@pytest.fixture
def two(read, talk):
    """A trace of two connections, one with time stamps."""
    one, other = talk(), talk(client=("10.0.0.2", 50000))
    one.handshake(0)
    other.handshake(5)
    one.client(20, "PA", 1, 1, 100, stamps=(7, 8))
    return read([*one.packets, *other.packets])


def test_arrow_has_values_and_nulls(two):
    rows = two.table.to_arrow().to_pylist()
    assert [row["number"] for row in rows] == two.table.number.tolist()
    assert [row["ts_value"] for row in rows] == [None] * 6 + [7]
    assert [row["mss"] for row in rows] == [1460, 1460, 1460, None, 1460, None, None]
    assert all(row["sack"] is None for row in rows)
    first = rows[0]["time"]
    assert (int(first.timestamp()), str(first.tzinfo)) == (1_700_000_000, "UTC")


def test_sack_blocks_are_lists_of_their_rows(read, talk):
    from scapy.layers.inet import TCP
    from scapy.layers.l2 import Ether

    t = talk()
    t.handshake()
    for edges in ((), (1, 2), (3, 4, 5, 6)):
        t.server(20, "A", 1, 1)
        at, frame = t.packets[-1]
        packet = Ether(frame)
        packet[TCP].options = [("SAck", edges)] if edges else []
        del packet[TCP].dataofs, packet["IP"].len, packet["IP"].chksum
        t.packets[-1] = (at + len(edges), bytes(packet))
    table = read(t).table
    pairs = [None, [{"left": 1, "right": 2}], [{"left": 3, "right": 4}, {"left": 5, "right": 6}]]
    assert table.to_arrow()["sack"].to_pylist()[-3:] == pairs
    assert table.take(slice(4, None)).to_arrow()["sack"].to_pylist() == pairs[1:]


def test_the_command_writes_segments_and_connections(two, tmp_path):
    out = tmp_path / "out.parquet"
    result = CliRunner().invoke(app, ["trace", str(two.path), "--parquet", str(out)])
    assert result.exit_code == 0, result.output
    assert pyarrow.parquet.read_table(out).equals(two.table.to_arrow())
    connections = pyarrow.parquet.read_table(f"{out}.connections").to_pylist()
    assert [row["initiator"] for row in connections] == ["10.0.0.1:40000", "10.0.0.2:50000"]
    CliRunner().invoke(app, ["trace", str(two.path), "--parquet", str(out), "--host", "10.0.0.2"])
    assert set(pyarrow.parquet.read_table(out)["connection"].to_pylist()) == {2}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.pcap", "out.parquet", "out.parquet.connections"
    ]  # fmt: skip


def test_one_file_is_written_for_one_capture(two, tmp_path):
    arguments = ["trace", str(two.path), str(two.path), "--parquet", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, TraceError)
    assert "2 are given" in str(result.exception)


@pytest.mark.parametrize(
    ("missing", "method", "way"),
    [
        ("pyarrow", "to_arrow", r"pip install 'testbed\[data\]'"),
        ("pandas", "to_pandas", "pip install pandas"),
        ("polars", "to_polars", "pip install polars"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(two, monkeypatch, missing, method, way):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(TraceError, match=rf"needs {missing}, .*{way}"):
        getattr(two.table, method)()


def test_a_file_that_cannot_be_written_is_an_error(two, tmp_path):
    from testbed.trace.table.export import write_parquet

    with pytest.raises(TraceError, match="cannot be written"):
        write_parquet(tmp_path / "absent" / "out", two.table.to_arrow())
