"""Units: text to base units and back, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import InvalidValue
from testbed.topology import units
from testbed.topology.model import QueueLimit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("1.5s", 1.5),
        ("100us", 1e-4),
        ("7 ns", 7e-9),
        ("2min", 120),
        ("1h", 3600),
        (".5s", 0.5),
        (0, 0),
        ("0", 0),
        (0.0, 0),
    ],
)
def test_durations_in_seconds(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100mbit", 1e8),
        ("1gbit", 1e9),
        ("2.5kbit", 2500),
        ("10Mbit", 1e7),
        ("10 Mbit/s", 1e7),
        ("1TBIT", 1e12),
        ("8bit", 8),
    ],
)
def test_rates_in_bits_per_second(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("64kB", 64000), ("64KB", 64000), ("1500B", 1500), (1500, 1500)],
)
def test_sizes_in_bytes(text: object, size: int) -> None:
    assert units.parse_size(text) == size
    assert isinstance(units.parse_size(text), int)


@pytest.mark.parametrize(
    ("text", "probability"),
    [("1%", 0.01), ("0.1 %", 0.001), ("100%", 1), (0.01, 0.01), (0, 0), ("0.5", 0.5)],
)
def test_probabilities_from_0_to_1(text: object, probability: float) -> None:
    assert units.parse_probability(text) == probability


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100 packets", QueueLimit(100, "packets")),
        ("1 packet", QueueLimit(1, "packets")),
        ("64KiB", QueueLimit(65536, "bytes")),
        ("50ms", QueueLimit(0.05, "seconds")),
        ("2 bdp", QueueLimit(2, "bdp")),
        ("0.5bdp", QueueLimit(0.5, "bdp")),
    ],
)
def test_queue_limits(text: str, limit: QueueLimit) -> None:
    assert units.parse_queue_limit(text) == limit


ABSURD = [None, True, "", " ", "ms", "1e3ms", "--1ms", "nan", "inf", [], {}, "1" * 400 + "ms"]
NUMBERS = [float("nan"), float("inf"), float("-inf"), -1, -0.5, 10**400]


@pytest.mark.parametrize("value", [*ABSURD, *NUMBERS])
@pytest.mark.parametrize(
    "parse",
    [
        units.parse_duration,
        units.parse_rate,
        units.parse_size,
        units.parse_probability,
        units.parse_queue_limit,
    ],
)
def test_nonsense_is_refused(parse: Callable[[object], object], value: object) -> None:
    with pytest.raises(InvalidValue, match=r"^expected"):
        parse(value)


@pytest.mark.parametrize(
    ("parse", "value", "says"),
    [
        (units.parse_duration, "10", "unit is missing (10us, 10ms, 10s"),
        (units.parse_duration, 10, "unit is missing"),
        (units.parse_duration, "10mz", "did you mean 'ms'?"),
        (units.parse_duration, "-1s", "cannot be negative"),
        (units.parse_duration, "500h", "between 1ns and 168h"),
        (units.parse_rate, 100, "unit is missing"),
        (units.parse_rate, "0mbit", "between 1bit and 100tbit"),
        (units.parse_rate, "10Mbps", "ambiguous (bits or bytes); did you mean 'mbit'?"),
        (units.parse_rate, "10mbitt", "did you mean 'mbit'?"),
        (units.parse_rate, "1000tbit", "between"),
        (units.parse_size, "1.5B", "whole number"),
        (units.parse_size, 1.5, "whole number"),
        (units.parse_size, "64kb", "did you mean 'kB'?"),
        (units.parse_probability, 1, "write 1%"),
        (units.parse_probability, "5", "write 5%"),
        (units.parse_probability, "101%", "between 0% and 100%"),
        (units.parse_queue_limit, 100, "such as 100 packets"),
        (units.parse_queue_limit, "100 packet5", "did you mean 'packet'?"),
        (units.parse_queue_limit, "0 packets", "between 1"),
        (units.parse_queue_limit, "1.5 packets", "whole number"),
        (units.parse_queue_limit, "0ms", "room for something"),
        (units.parse_queue_limit, "0bdp", "between 0.001bdp"),
    ],
)
def test_refusals_say_what_to_write(
    parse: Callable[[object], object], value: object, says: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse(value)
    assert says in str(caught.value)


def test_a_long_value_is_quoted_in_part() -> None:
    with pytest.raises(InvalidValue) as caught:
        units.parse_duration("x" * 100_000)
    assert len(str(caught.value)) < 300


@given(st.floats(1e-9, 168 * 3600))
def test_formatted_durations_read_back(seconds: float) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@given(st.floats(1, 1e14))
def test_formatted_rates_read_back(rate: float) -> None:
    assert units.parse_rate(units.format_rate(rate)) == pytest.approx(rate, rel=1e-5)


@given(st.integers(1, 2**40))
def test_formatted_sizes_read_back(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == pytest.approx(size, rel=1e-5)


@given(st.floats(1e-6, 1))
def test_formatted_probabilities_read_back(probability: float) -> None:
    text = units.format_probability(probability)
    assert units.parse_probability(text) == pytest.approx(probability, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("100 packets", "100 packets"), ("64KiB", "64KiB"), ("50ms", "50ms"), ("2bdp", "2 bdp")],
)
def test_queue_limits_are_shown_as_written(text: str, shown: str) -> None:
    assert units.format_queue_limit(units.parse_queue_limit(text)) == shown


def test_values_are_shown_in_the_largest_fitting_unit() -> None:
    assert units.format_duration(0.02) == "20ms"
    assert units.format_duration(90) == "1.5min"
    assert units.format_duration(0) == "0ns"
    assert units.format_rate(2.5e9) == "2.5gbit"
    assert units.format_size(1500) == "1.5kB"
    assert units.format_probability(0.015) == "1.5%"


PATTERNS = {
    units.DURATION.pattern: units.parse_duration,
    units.RATE.pattern: units.parse_rate,
    units.SIZE.pattern: units.parse_size,
    units.PROBABILITY_PATTERN: units.parse_probability,
    units.QUEUE_LIMIT_PATTERN: units.parse_queue_limit,
}
TEXTS = st.from_regex(r"\A[0-9.]{1,5} ?([a-zA-Z%/]{0,7}|packets?|[kKmMgG]i?[bB](it)?)\Z")


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS)
def test_what_a_parser_takes_its_pattern_takes(pattern: str, text: str) -> None:
    try:
        PATTERNS[pattern](text)
    except InvalidValue:
        return
    assert re.search(pattern, text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(80.0, "80s"), (90.0, "1.5min"), (0.0203, "20.3ms"), (1 / 3, "333.333333ms"), (7200.0, "2h")],
)
def test_a_unit_is_taken_that_says_a_value_exactly(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text
