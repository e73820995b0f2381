"""Bursty losses against the closed formulas of their models."""

from __future__ import annotations

import itertools

import pytest

from testbed.topology.model import FourState, GilbertElliott, Impairments

COUNT = 40_000


def losses(line, model: GilbertElliott | FourState, seed: int = 1) -> list[bool]:
    lossy = line(Impairments(loss_model=model), seed=seed)
    frames = [number.to_bytes(4, "big") for number in range(COUNT)]
    for number, frame in enumerate(frames):
        lossy.send(frame, number)
    arrived = {frame for _, frame in lossy.arrivals()}
    assert lossy.dropped("loss") == COUNT - len(arrived)
    return [frame not in arrived for frame in frames]


def bursts(lost: list[bool]) -> list[int]:
    """Lengths of the runs of losses."""
    return [len(list(run)) for value, run in itertools.groupby(lost) if value]


def test_gilbert_losses_come_in_bursts_of_mean_one_over_r(line):
    lost = losses(line, GilbertElliott(p=0.01, r=0.25))
    assert sum(lost) / COUNT == pytest.approx(0.01 / (0.01 + 0.25), rel=0.2)
    runs = bursts(lost)
    assert sum(runs) / len(runs) == pytest.approx(1 / 0.25, rel=0.15)


def test_losses_in_both_states_add_up(line):
    model = GilbertElliott(p=0.02, r=0.2, bad_loss=0.5, good_loss=0.01)
    bad = 0.02 / 0.22
    assert sum(losses(line, model)) / COUNT == pytest.approx(bad * 0.5 + (1 - bad) * 0.01, rel=0.15)


def test_r_is_one_minus_p_unless_given(line):
    """Then the state is drawn anew for every packet: independent losses with probability p."""
    lost = losses(line, GilbertElliott(p=0.2))
    assert sum(lost) / COUNT == pytest.approx(0.2, rel=0.05)
    runs = bursts(lost)
    assert sum(runs) / len(runs) == pytest.approx(1 / 0.8, rel=0.05)


def test_four_states_have_isolated_losses_and_bursts(line):
    isolated = losses(line, FourState(p13=0.0, p14=0.05))
    assert set(bursts(isolated)) == {1}
    assert sum(isolated) / COUNT == pytest.approx(0.05 / 1.05, rel=0.1)
    lost = losses(line, FourState(p13=0.01, p31=0.2))
    runs = bursts(lost)
    assert sum(runs) / len(runs) == pytest.approx(1 / 0.2, rel=0.15)


def test_four_states_pass_packets_within_a_burst(line):
    """With p32 and p23, a burst is losses and arrivals in turn, until state 1."""
    lost = losses(line, FourState(p13=0.01, p31=0.1, p32=0.4, p23=0.5))
    # Stationary shares of the chain 1 -> 3 (p13), 3 -> 1 (p31), 3 -> 2 (p32), 2 -> 3 (p23).
    three = 1 / (1 + 0.1 / 0.01 + 0.4 / 0.5)
    assert sum(lost) / COUNT == pytest.approx(three, rel=0.15)


def test_the_same_seed_gives_the_same_bursts(line):
    model = GilbertElliott(p=0.01, r=0.25)
    assert losses(line, model) == losses(line, model)
    assert losses(line, model) != losses(line, model, seed=2)


@pytest.mark.parametrize(
    "impairments",
    [
        Impairments(loss=0.3),
        Impairments(loss_model=GilbertElliott(p=0.2, r=0.4)),
        Impairments(loss_model=FourState(p13=0.2, p31=0.4)),
    ],
    ids=["independent", "gilbert-elliott", "state"],
)
def test_multicast_in_between_does_not_shift_what_is_lost(line, impairments):
    def arrived(every: int) -> list[bytes]:
        lossy = line(impairments)
        for number in range(500):
            if number % every == 0:
                lossy.send(b"\x33\x33" + number.to_bytes(4, "big"), number)
            lossy.send(b"\x02\x00" + number.to_bytes(4, "big"), number)
        return [frame for _, frame in lossy.arrivals()]

    unicast, multicast = (
        [[frame for frame in arrived(every) if frame[:1] == first] for every in (1000, 3)]
        for first in (b"\x02", b"\x33")
    )
    assert unicast[0] == unicast[1]
    assert 100 < len(unicast[0]) < 450
    assert 30 < len(multicast[1]) < 160


def test_a_change_elsewhere_leaves_the_model_in_its_state(line):
    model = GilbertElliott(p=0.05, r=0.05)
    undisturbed = losses(line, model)
    lossy = line(Impairments(loss_model=model))
    frames = [number.to_bytes(4, "big") for number in range(COUNT)]
    for number, frame in enumerate(frames):
        if number % 1000 == 0:
            lossy.set(Impairments(loss_model=model, delay=number / 1e9), number)
        lossy.send(frame, number)
    arrived = {frame for _, frame in lossy.arrivals()}
    assert [frame not in arrived for frame in frames] == undisturbed
