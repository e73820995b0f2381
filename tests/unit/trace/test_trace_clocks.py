"""How far apart two captures' clocks are, by the segments that both hold."""

from __future__ import annotations

import pytest

from testbed.trace import compare_clocks
from testbed.trace.clocks import comes_first

MS = 1_000_000


@pytest.fixture
def pair(talk, read):
    """One connection of requests and answers, at the client and at the server.

    ahead: ms by which the server's clock is ahead, `gains` more in each ms. delays: ms, of each
    segment in turn.
    """

    def make(ahead=0.0, gains=0.0, delays=(5.0,), count=40, gap=30.0, flip=False):
        near, far = talk(), talk()
        says = [(True, "S", 0, 0), (False, "SA", 0, 1), (True, "A", 1, 1)]
        for number in range(count):
            says += [(True, "PA", 1 + 10 * number, 1 + 10 * number)]
            says += [(False, "PA", 1 + 10 * number, 11 + 10 * number)]
        for number, (from_client, flags, seq, ack) in enumerate(says):
            at, delay = 1000 + gap * number, delays[number % len(delays)]
            size = 10 if "P" in flags else 0
            there = near if from_client else far
            for capture in (near, far):
                time = at if capture is there else at + delay
                if capture is far:
                    time += ahead + gains * (time - 1000)
                speak = capture.client if from_client else capture.server
                speak(time, flags, seq, ack, size)
        (one,) = read(near.packets, "near.pcap").connections
        (other,) = read(far.packets, "far.pcap").connections
        return (other, one) if flip else (one, other)

    return make


@pytest.mark.parametrize("ahead", [0, 4.9, -4.9])
def test_less_than_the_delay_cannot_be_told(pair, ahead):
    assert compare_clocks(*pair(ahead), outward=True) is None


@pytest.mark.parametrize("ahead", [15, -15, 3_600_000, -86_400_000.5])
@pytest.mark.parametrize("delays", [(5.0,), (5.0, 5.0, 9.0, 9.0, 30.0, 6.0)])
def test_more_than_the_delay_is_found(pair, ahead, delays):
    clock = compare_clocks(*pair(ahead, delays=delays), outward=True)
    assert abs(clock.ahead / MS - ahead) < 0.01
    assert clock.give_or_take / MS == pytest.approx(5, abs=0.01)
    assert clock.drift == 0


def test_an_uneven_path_is_within_what_it_says(pair):
    """2 ms there and 10 ms back."""
    near, far = pair(50, delays=(2.0, 10.0, 2.0, 2.0, 10.0))
    clock = compare_clocks(near, far, outward=True)
    assert abs(clock.ahead / MS - 50) <= clock.give_or_take / MS + 0.01


@pytest.mark.parametrize("gains", [50e-6, -200e-6])
def test_drift_is_found_in_a_long_capture(pair, gains):
    near, far = pair(1000, gains, delays=(5.0, 7.0, 6.0), gap=1000.0)
    clock = compare_clocks(near, far, outward=True)
    assert clock.drift == pytest.approx(gains, rel=0.1)
    corrected = [clock.corrected(segment.time) for segment in far.segments]
    for sent, time in zip(near.segments, corrected, strict=True):
        late = time - sent.time if near.is_outward(sent) else sent.time - time
        assert -0.5 * MS < late < 8 * MS


def test_a_queue_that_grows_is_no_drift(pair):
    delays = tuple(5 + number / 4 for number in range(80))
    clock = compare_clocks(*pair(1000, delays=delays), outward=True)
    assert clock.drift == 0


@pytest.mark.parametrize("ahead", [0, 15, -15, 100_000])
def test_who_is_nearer_to_the_initiator_does_not_depend_on_the_clocks(pair, ahead):
    assert comes_first(*pair(ahead)) is True
    assert comes_first(*pair(ahead, flip=True)) is False


def test_nothing_in_common_tells_nothing(talk, read):
    one, other = talk(), talk(client_isn=7, server_isn=8)
    one.handshake()
    other.handshake()
    (first,), (second,) = read(one).connections, read(other).connections
    assert compare_clocks(first, second, outward=True) is None
    assert comes_first(first, second) is None
