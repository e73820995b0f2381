"""The table of every function that remembers: room, silence, ends, and ports used again."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from box_bench import CLIENT_ISN, SERVER_ISN
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, IPV6_KEY, loaded

from testbed.middlebox import (
    EVICTED,
    IDLE,
    INSIDE,
    LINGER,
    LINGERED,
    OUTSIDE,
    Flow,
    FlowTable,
    Phase,
    Side,
    TcpFlow,
    TcpState,
    TcpTable,
    tcp_phases,
)
from testbed.middlebox.timers import Timers
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import Packet, reverse_key

MODULUS = 1 << 32
FIRST, ANSWER = (CLIENT_ISN + 1) % MODULUS, SERVER_ISN + 1


class Clock:
    """A box that is nothing but a clock and its timers."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers = Timers(lambda: self.time)
        self.box: Any = SimpleNamespace(now=lambda: self.time, call_later=self.timers.call_later)
        self.ended: list[tuple[Any, str]] = []

    def wait(self, seconds: float) -> None:
        end = self.time + seconds
        while (due := self.timers.timeout()) is not None and self.time + due <= end:
            self.time += due
            self.timers.fire()
        self.time = end

    def told(self, flow: Any, cause: str) -> None:
        self.ended.append((flow, cause))


def flows(number: int) -> list[Flow]:
    return [Flow() for _ in range(number)]


def test_a_full_table_evicts_what_was_used_least_recently():
    clock, counters = Clock(), Counter()
    table: FlowTable[Flow] = FlowTable(clock.box, limit=2, counters=counters, on_end=clock.told)
    one, two, three = flows(3)
    table.add(one, b"1", b"-1")
    table.add(two, b"2", b"-2")
    table.use(one)
    table.add(three, b"3", b"-3")
    assert clock.ended == [(two, EVICTED)] and counters == {"evicted": 1}
    assert len(table) == 2 and table.oldest() is one
    assert table.get(b"1") is table.get(b"-1") is one and table.get(b"-2") is None


def test_other_limits_hold_at_once():
    clock = Clock()
    table: FlowTable[Flow] = FlowTable(clock.box, limit=9, on_end=clock.told)
    for number in range(9):
        table.add(Flow(), number)
    table.configure((Phase(),), limit=3)
    assert len(clock.ended) == 6 and len(table) == 3


def test_a_key_belongs_to_one_flow_until_that_is_removed():
    table: FlowTable[Flow] = FlowTable(Clock().box)
    one, two = flows(2)
    table.add(one, b"1", b"x")
    with pytest.raises(KeyError):
        table.add(two, b"2", b"x")
    assert table.get(b"2") is None
    table.remove(one)
    table.remove(one)
    table.add(two, b"2", b"x")
    assert table.get(b"x") is two


def test_the_first_phases_make_room_first_and_each_within_its_own_limit():
    clock = Clock()
    table: FlowTable[Flow] = FlowTable(
        clock.box, (Phase(), Phase(limit=2)), limit=3, on_end=clock.told
    )
    old, *new = flows(5)
    table.add(new[0], 0, phase=1)
    table.add(old, "old", phase=0)
    table.add(new[1], 1, phase=1)
    table.add(new[2], 2, phase=1)
    assert clock.ended == [(new[0], EVICTED)]  # beyond the limit of its own phase
    table.add(new[3], 3, phase=0)
    assert clock.ended[1:] == [(old, EVICTED)]
    assert (table.count(0), table.count(1)) == (1, 2)


def test_silence_ends_a_flow_and_use_does_not():
    clock, counters = Clock(), Counter()
    table: FlowTable[Flow] = FlowTable(
        clock.box, (Phase(10.0),), counters=counters, on_end=clock.told
    )
    one, two = flows(2)
    table.add(one, 1)
    table.add(two, 2)
    clock.wait(9.0)
    table.use(one)
    clock.wait(9.0)
    assert clock.ended == [(two, IDLE)] and counters == {"idle": 1}
    clock.wait(1.0)
    assert clock.ended == [(two, IDLE), (one, IDLE)]
    assert clock.timers.timeout() is None


def test_a_phase_has_a_timeout_of_its_own_that_can_be_changed():
    clock = Clock()
    phases = (Phase(5.0, cause="short"), Phase(50.0), Phase(None))
    table: FlowTable[Flow] = FlowTable(clock.box, phases, on_end=clock.told)
    short, long, never, moved = flows(4)
    for phase, flow in enumerate((short, long, never)):
        table.add(flow, phase, phase=phase)
    table.add(moved, "moved", phase=0)
    table.move(moved, 1)
    clock.wait(20.0)
    assert clock.ended == [(short, "short")]
    table.configure((Phase(5.0), Phase(10.0), Phase(None)))
    assert clock.ended[1:] == [(long, IDLE), (moved, IDLE)]
    clock.wait(1e6)
    assert len(table) == 1 and table.get(2) is never
    table.remove(never)
    assert clock.timers.timeout() is None


@given(st.data())
def test_it_stays_within_its_limits_and_finds_what_it_holds(data):
    clock = Clock()
    phases = (Phase(3.0, 4), Phase(7.0), Phase(None, 2))
    table: FlowTable[Flow] = FlowTable(clock.box, phases, limit=6, on_end=clock.told)
    names, alive = itertools.count(), {}
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.sampled_from(["add", "add", "use", "move", "remove", "wait"]))
        chosen = data.draw(st.sampled_from(sorted(alive))) if alive else None
        if what == "add":
            name = next(names)
            alive[name] = Flow()
            table.add(alive[name], name, -name - 1, phase=data.draw(st.integers(0, 2)))
        elif what == "wait":
            clock.wait(data.draw(st.sampled_from([0.5, 2.0, 4.0])))
        elif chosen is not None and what == "use":
            table.use(alive[chosen])
        elif chosen is not None and what == "move":
            table.move(alive[chosen], data.draw(st.integers(0, 2)))
        elif chosen is not None:
            table.remove(alive.pop(chosen))
        gone = {flow for flow, _ in clock.ended}
        alive = {name: flow for name, flow in alive.items() if flow not in gone}
        assert len(table) == len(alive) <= 6
        assert table.count(0) <= 4 and table.count(2) <= 2
        for name, flow in alive.items():
            assert table.get(name) is table.get(-name - 1) is flow
        for name, flow in alive.items():
            timeout = phases[flow.phase].timeout
            assert timeout is None or clock.time < flow.last_used + timeout, name


# TCP


@dataclass(eq=False, slots=True, kw_only=True)
class Named(TcpFlow):
    name: str = ""


class Wire:
    """A table, and a client outside that speaks with a server inside past it."""

    def __init__(self, key: bytes, scale: int | None = 7, idle: float = 1000.0) -> None:
        self.clock, self.key = Clock(), key
        self.options = HandshakeOptions(mss=1460, window_scale=scale).encode()
        self.table: TcpTable[Named] = TcpTable(
            self.clock.box, tcp_phases(idle), on_end=self.clock.told
        )

    def client(self, flags: int, at: int = 0, got: int = 0, **fields: Any) -> Named | None:
        return self.show(OUTSIDE, self.key, flags, FIRST + at, ANSWER + got, **fields)

    def server(self, flags: int, at: int = 0, got: int = 0, **fields: Any) -> Named | None:
        return self.show(INSIDE, reverse_key(self.key), flags, ANSWER + at, FIRST + got, **fields)

    def show(
        self, side: Side, key: bytes, flags: int, seq: int, ack: int, **fields: Any
    ) -> Named | None:
        known: dict[str, Any] = {"window": 500, "options": self.options if flags & SYN else b""}
        seq -= bool(flags & SYN)
        ack = ack if flags & ACK else 0
        packet: Packet = loaded(
            tcp_segment(key, **known | fields, seq=seq % MODULUS, ack=ack, flags=flags), side
        )
        flow = self.table.find(packet)
        if flow is None:
            flow = Named()
            self.table.begin(flow, packet)
        self.table.saw(flow, packet)
        return flow

    def open(self) -> Named:
        flow = self.client(SYN)
        assert flow is not None and flow.state is TcpState.OPENING
        assert self.server(SYN | ACK) is flow and flow.state is TcpState.OPENING
        assert self.client(ACK) is flow and flow.state is TcpState.OPEN
        return flow


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(request.param)


def test_a_connection_opens_closes_and_lingers(wire):
    flow = wire.open()
    wire.client(FIN | ACK)
    assert flow.state is TcpState.OPEN
    wire.server(FIN | ACK, got=1)
    assert flow.closed
    wire.clock.wait(LINGER - 1)
    wire.client(ACK, 1, 1)
    wire.clock.wait(LINGER - 1)
    assert wire.clock.ended == []
    wire.clock.wait(2)
    assert wire.clock.ended == [(flow, LINGERED)]


def test_a_syn_makes_use_of_a_closed_ones_ports_and_the_old_one_is_told(wire):
    flow = wire.open()
    assert wire.client(SYN, 7) is flow
    wire.client(FIN | ACK)
    assert wire.client(SYN, 7) is flow  # half closed
    wire.server(FIN | ACK, got=1)
    other = wire.client(SYN, 1 << 20)
    assert other is not flow and wire.clock.ended == [(flow, "reused")]
    assert other.state is TcpState.OPENING and len(wire.table) == 1


WINDOW = 500 << 7
CREDIBLE = {"exact": 0, "behind data under way": 3000, "the last in the window": WINDOW}
INCREDIBLE = {"one before": -1, "one beyond": WINDOW + 1, "far before": -50_000, "far": 1 << 30}


@pytest.mark.parametrize("flags", [RST, FIN | ACK], ids=["rst", "fin"])
@pytest.mark.parametrize("at", [*CREDIBLE.values(), *INCREDIBLE.values()], ids=str)
@pytest.mark.parametrize("speaker", ["client", "server"])
def test_an_end_counts_only_within_the_window_of_its_receiver(wire, flags, at, speaker):
    flow = wire.open()
    wire.server(ACK)
    getattr(wire, speaker)(flags, at)
    assert bool(flow.ended) is (at in CREDIBLE.values())


def test_nobody_moves_the_window_of_another(wire):
    """Who forges the client's segments cannot make the server's window go where they are."""
    flow = wire.open()
    wire.client(ACK, at=1 << 30)
    wire.client(RST, at=1 << 30)
    assert not flow.ended


def test_windows_are_scaled_only_where_both_have_said_so():
    wire = Wire(IPV4_KEY, scale=None)
    flow = wire.open()
    wire.client(RST, at=501)
    assert not flow.ended
    wire.client(RST, at=500)
    assert flow.closed


def test_a_reset_that_was_not_believed_is_forgotten_by_what_follows(wire):
    flow = wire.open()
    wire.client(FIN | ACK)
    wire.client(RST, 1)
    assert flow.closed
    wire.server(ACK, got=1)  # RFC 6146 section 3.5.2.2
    assert flow.state is TcpState.OPEN and flow.ended == 1 << OUTSIDE
    wire.clock.wait(500)
    assert wire.clock.ended == []


@pytest.mark.parametrize(
    ("flags", "got", "believed"),
    [(RST | ACK, 0, True), (RST | ACK, 17, True), (RST | ACK, -9, False), (RST, 0, False)],
)
def test_a_refusal_has_to_acknowledge_the_syn(wire, flags, got, believed):
    flow = wire.client(SYN)
    wire.server(flags, at=99, got=got)
    assert flow.closed is believed


def test_before_an_answer_the_opener_ends_only_near_its_syn(wire):
    flow = wire.client(SYN)
    wire.client(RST, at=1 << 20)
    assert flow.state is TcpState.OPENING
    wire.client(RST, at=0)
    assert flow.closed


def test_a_connection_seen_first_in_its_middle_is_open(wire):
    flow = wire.client(ACK, 1000, 1000)
    assert flow.state is TcpState.OPEN
    wire.server(RST, 1000)
    assert flow.closed


def test_both_may_open_at_once(wire):
    flow = wire.client(SYN)
    wire.server(SYN)
    wire.client(SYN | ACK)
    assert flow.state is TcpState.OPENING
    wire.client(ACK)
    assert flow.state is TcpState.OPEN
