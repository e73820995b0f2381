"""What the benchmark of links makes of its figures."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from testbed.errors import LabError


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))


def collected(**changes):
    from emulation_result import Results

    kernels = {"userspace": "6.18", "mahimahi": "6.18", "netem in User-Mode Linux": "6.1"}
    error, rate = "delay error at 10 ms, us, p50", "TCP goodput at 10 Mbit/s, % of what fits"
    settings = {
        "settings": {"quick": False},
        "load_average": 0.1,
        "figures": {
            "userspace": {error: [20.0, 30.0, 1000.0], rate: [100.0, 99.0, 100.0]},
            "mahimahi": {error: [200.0, 150.0, 250.0], rate: [50.0, 50.0, 51.0]},
            "netem in User-Mode Linux": {error: [60.0, 60.0, 60.0]},
        },
        "environments": {
            name: {"kernel": kernel, "cpus": 2, "processor": "a chip"}
            for name, kernel in kernels.items()
        },
    }
    return Results(**{**settings, **changes})


def test_a_peer_is_compared_by_the_median_of_the_repetitions_ratios():
    from emulation_result import lines

    head, error, rate, *_ = lines(collected())
    assert head.split("  ")[-1] == "x mahimahi"
    # 0.1, 0.2 and 4, where the ratio of the medians would be 0.15.
    assert error.split()[-1] == "0.20"
    assert "30.0 (20.0..1000.0)" in error
    assert "200.0 (150.0..250.0)" in error
    assert rate.split()[-2:] == ["(50.00..51.00)", "-"]


def test_one_whose_repetitions_differ_in_number_is_not_compared():
    from emulation_result import ratio

    results = collected()
    name = "delay error at 10 ms, us, p50"
    del results.figures["mahimahi"][name][0]
    assert ratio(results, "mahimahi", name) is None


def test_what_must_not_be_cited_says_so():
    from emulation_result import lines

    assert not any("cited" in line for line in lines(collected()))
    assert "load average was 0.60" in next(lines(collected(load_average=0.6)))
    assert next(lines(collected(settings={"quick": True}))).startswith("QUICK")


def test_the_rate_of_a_stream_is_not_moved_by_what_waits_for_a_retransmission():
    from emulation_load import Flow

    flow = Flow()
    for number in range(376):
        moment = number * 0.02
        held = moment < 0.15 or 3 < moment < 3.15 or moment > 7.4
        arrived = (0.0 if moment < 0.15 else 3.0 if moment < 3.15 else 7.4) if held else moment
        flow.marks.append((moment, round(arrived * 1_250_000)))
    assert flow.rate() == pytest.approx(10, rel=0.001)


class Broken:
    name = "broken"

    def path(self, conditions):
        raise LabError("The link is cut.")


def test_a_measurement_that_fails_is_told_and_the_others_go_on(monkeypatch):
    import emulation
    from emulation_result import lines

    monkeypatch.setattr(emulation, "available", lambda *_: [Broken()])
    results = collected(figures={})
    words = argparse.Namespace(emulators=(), measurements=("delay", "many", "queue"), repeats=1)
    emulation.run(words, emulation.QUICK, results)
    assert [line for line in lines(results) if line.startswith("FAILED")] == [
        "FAILED: delay of broken: The link is cut.",
        "FAILED: queue of broken: The link is cut.",
    ]


@pytest.mark.parametrize("rate", [1e6, 2.5e6, 1e7, 1e8, 1e9, 123e6])
def test_a_trace_of_mahimahi_has_exactly_the_rate(rate):
    from emulation_mahimahi import opportunities

    trace = opportunities(rate)
    assert len(trace) * 1500 * 8 / (trace[-1] / 1000) == pytest.approx(rate, rel=1e-9)
    assert trace == sorted(trace)
    assert trace[0] >= 1
