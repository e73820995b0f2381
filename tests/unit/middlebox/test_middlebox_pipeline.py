"""Functions in a row: order, side-effects, accounting, options."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import msgspec
import pytest
from box_bench import Bench
from packet_bench import IPV4_KEY, IPV6_KEY, checksums_are_right, word_sum

from testbed.errors import LabError
from testbed.middlebox import registry
from testbed.middlebox.function import (
    ABSORB,
    HOLD,
    PASS,
    Function,
    Verdict,
    drop,
)
from testbed.middlebox.registry import find, function, function_options
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK
from testbed.wire.ip import TCP, UDP
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, reverse_key

GO_IN = tcp_segment(IPV4_KEY, seq=1, flags=ACK, payload=b"in")
GO_OUT = tcp_segment(reverse_key(IPV4_KEY), seq=1, flags=ACK, payload=b"out")


class Note(Function):
    """Writes down what it sees, and does what a test tells it."""

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        verdict: str = "pass"
        emit: str = ""

    def packet(self, packet: Packet) -> Verdict:
        data = bytes(packet.buffer[packet.payload : packet.end])
        seen.append((self.name, data))
        for letter in self.options.emit:
            toward = OUTSIDE if letter.isupper() else INSIDE
            key = IPV4_KEY if toward is INSIDE else reverse_key(IPV4_KEY)
            self.box.emit(tcp_segment(key, seq=1, flags=ACK, payload=letter.encode()), toward)
        if self.options.verdict == "hold":
            copy = packet.copy()
            self.box.call_later(5, lambda: self.box.release(copy, packet.side.other))
        if self.options.verdict == "abandon":
            self.box.call_later(5, lambda: self.box.abandon(1, "too-late"))
        return {"pass": PASS, "hold": HOLD, "abandon": HOLD, "absorb": ABSORB}.get(
            self.options.verdict
        ) or drop(self.options.verdict)


seen: list[tuple[str, bytes]] = []


@pytest.fixture(autouse=True)
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three functions a, b and c for the length of a test."""
    registry.functions()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    for name in "abc":
        function(name)(type(f"Note{name}", (Note,), {}))
    seen.clear()
    yield


def test_packets_meet_the_functions_from_the_side_they_come_from():
    bench = Bench(("a", {}), ("b", {}), ("c", {}))
    (packet,) = bench.put(OUTSIDE, GO_IN)
    assert packet.side is INSIDE and [name for name, _ in seen] == ["a", "b", "c"]
    seen.clear()
    (packet,) = bench.put(INSIDE, GO_OUT)
    assert packet.side is OUTSIDE and [name for name, _ in seen] == ["c", "b", "a"]


def test_emitted_packets_meet_only_the_functions_ahead_of_them():
    bench = Bench(("a", {}), ("b", {"emit": "xY"}), ("c", {}))
    out = bench.put(OUTSIDE, GO_IN)
    assert seen == [("a", b"in"), ("b", b"in"), ("c", b"x"), ("a", b"Y"), ("c", b"in")]
    assert [(p.side, p.payload) for p in out] == [
        (INSIDE, b"x"),
        (OUTSIDE, b"Y"),
        (INSIDE, b"in"),
    ]
    assert bench.pipeline.counters().created == 2


def test_order_is_kept_when_several_functions_emit():
    bench = Bench(("a", {"emit": "xy"}), ("b", {"emit": "z"}), ("c", {}))
    out = bench.put(OUTSIDE, GO_IN)
    assert [p.payload for p in out] == [b"z", b"x", b"z", b"y", b"z", b"in"]


@pytest.mark.parametrize(
    ("verdict", "field"), [("absorb", "absorbed"), ("hold", "held"), ("nasty", "dropped")]
)
def test_a_packet_that_does_not_pass_is_counted(verdict, field):
    bench = Bench(("a", {"verdict": verdict}), ("b", {}))
    assert bench.put(OUTSIDE, GO_IN) == []
    counters = bench.pipeline.counters()
    assert getattr(counters, field) == ({"nasty": 1} if verdict == "nasty" else 1)
    assert seen == [("a", b"in")]
    assert counters.received["outside"].packets == 1
    assert counters.received["outside"].bytes == len(GO_IN)
    assert counters.sent["inside"].packets == 0


def test_held_packets_go_on_from_where_they_were_held():
    bench = Bench(("a", {}), ("b", {"verdict": "hold"}), ("c", {}))
    assert bench.put(OUTSIDE, GO_IN) == []
    (packet,) = bench.wait(6)
    assert packet.payload == b"in" and [name for name, _ in seen] == ["a", "b", "c"]
    assert bench.pipeline.counters().held == 0


def test_held_packets_that_are_given_up_are_drops():
    bench = Bench(("a", {"verdict": "abandon"}))
    bench.put(OUTSIDE, GO_IN)
    bench.wait(6)
    assert bench.dropped == {"too-late": 1} and bench.pipeline.counters().held == 0


def test_a_disabled_function_sees_nothing_and_one_that_drains_goes_on():
    bench = Bench(("a", {}), ("b", {}))
    type(bench.pipeline.functions["b"]).drains = True
    bench.pipeline.switch("a", False)
    bench.pipeline.switch("b", False)
    bench.put(OUTSIDE, GO_IN)
    assert [name for name, _ in seen] == ["b"]
    assert not bench.pipeline.functions["b"].enabled
    bench.pipeline.switch("a", True)
    bench.put(OUTSIDE, GO_IN)
    assert [name for name, _ in seen] == ["b", "a", "b"]


def test_functions_see_only_the_protocols_they_ask_for():
    bench = Bench(("a", {}), ("b", {}), ("c", {}))
    type(bench.pipeline.functions["a"]).protocols = frozenset({TCP})
    type(bench.pipeline.functions["b"]).protocols = frozenset({UDP})
    bench.pipeline.switch("a", True)  # lays the routes anew
    bench.put(OUTSIDE, GO_IN)
    assert [name for name, _ in seen] == ["a", "c"]
    seen.clear()
    fragment = bytearray(GO_IN)
    fragment[6] = 0x20
    bench.put(OUTSIDE, fragment)
    assert [name for name, _ in seen] == ["c"]


def with_header_checksum(checksum: int, ttl: int = 63) -> bytearray:
    """A packet whose identification makes its right header checksum that one."""
    data = bytearray(GO_IN)
    data[8] = ttl
    data[4:6] = data[10:12] = b"\0\0"
    struct.pack_into("!H", data, 4, (0xFFFF - checksum - word_sum(bytes(data[:20]))) % 0xFFFF)
    struct.pack_into("!H", data, 10, checksum)
    assert checksums_are_right(data)
    return data


@pytest.mark.parametrize("ttl", [0, 1, 63, 254, 255])
def test_the_hop_that_the_kernel_takes_twice_is_put_back_once(ttl):
    (packet,) = Bench().put(OUTSIDE, with_header_checksum(0x1234, ttl))
    assert packet.data[8] == min(ttl + 1, 255) and packet.right


@pytest.mark.parametrize("checksum", [0, 1, 0xFE, 0xFF, 0x100, 0x101, 0x1FF, 0xFEFF, 0xFFFE])
def test_the_header_checksum_follows_as_if_computed(checksum):
    (packet,) = Bench().put(OUTSIDE, with_header_checksum(checksum))
    found = bytes(packet.data[10:12])
    packet.data[10:12] = b"\0\0"
    assert found == struct.pack("!H", 0xFFFF - word_sum(bytes(packet.data[:20])))


def test_the_hop_limit_of_ipv6_is_put_back():
    data = tcp_segment(IPV6_KEY, seq=1, flags=ACK)
    (packet,) = Bench().put(OUTSIDE, data)
    assert packet.data[7] == data[7] + 1 and packet.right


@pytest.mark.parametrize(("key", "at", "first"), [(IPV4_KEY, 16, 0xE0), (IPV6_KEY, 24, 0xFF)])
def test_multicast_of_the_boxs_own_kernel_is_left_alone(key, at, first):
    data = tcp_segment(key, seq=1, flags=ACK)
    data[at] = first
    bench = Bench()
    assert bench.put(OUTSIDE, data) == []
    assert bench.pipeline.counters().received["outside"].packets == 0
    data[at] = first - 1
    assert len(bench.put(OUTSIDE, data)) == 1


def test_what_is_no_packet_is_dropped_by_name():
    bench = Bench()
    assert bench.put(OUTSIDE, b"\0" * 60) == []
    assert bench.dropped == {"malformed": 1}


def test_a_packet_that_cannot_be_sent_is_a_drop():
    bench = Bench()

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    bench.pipeline._send = refuse
    bench.put(OUTSIDE, GO_IN)
    assert bench.dropped == {"not-sent: Input/output error": 1}


def test_options_are_checked_and_changed_in_part():
    bench = Bench(("a", {"verdict": "pass"}))
    bench.pipeline.set_options("a", {"emit": "x"})
    assert msgspec.to_builtins(bench.pipeline.functions["a"].options) == {
        "verdict": "pass",
        "emit": "x",
    }
    with pytest.raises(LabError, match=r"'a' cannot take .*; it has verdict, emit"):
        bench.pipeline.set_options("a", {"nonsense": 1})
    with pytest.raises(LabError, match="'a' cannot take these options"):
        Bench(("a", {"emit": 1}))
    with pytest.raises(LabError, match="listed twice"):
        Bench(("a", {}), ("a", {}))


def test_an_unknown_function_is_refused_with_the_nearest_name():
    with pytest.raises(LabError, match=r"no middlebox function 'setup-prox'.*'setup-proxy'"):
        find("setup-prox")


def test_every_function_tells_its_options_and_explains_each():
    for name, options in function_options().items():
        if name in "abc":
            continue
        for field in options.__struct_fields__:
            assert field in (options.__doc__ or ""), f"{name}: {field} is not explained"
        options()  # every field has a default


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="'a' is Notea already"):
        function("a")(type("Other", (Note,), {}))


def test_functions_come_from_installed_distributions_too(monkeypatch):
    found = [EntryPoint("d", "somewhere:D", registry.ENTRY_POINTS)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)
    monkeypatch.setattr(EntryPoint, "load", lambda _: function("d")(type("D", (Note,), {})))
    registry._discover.__wrapped__()
    assert find("d").name == "d"
