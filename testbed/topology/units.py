"""Quantities with units: parsed once, at the edge, into plain numbers in base units.

The words are those of tc(8) where it has one meaning for them:

- durations: `ns us ms s min h`, seconds; a bare number is refused (0 is fine);
- rates: `bit kbit mbit gbit tbit`, powers of 1000, any letter case, `/s` may follow, bit/s;
  `Mbps` is refused because tc reads it as megabytes and most people as megabits;
- sizes: `B kB MB GB` (powers of 1000) and `KiB MiB GiB` (powers of 1024), bytes; a bare whole
  number is a number of bytes;
- probabilities: `1%`, or a bare number below 1; a bare 1 is refused (1% or 100%?);
- queue limits: `100 packets`, a size, a duration or `2 bdp`.

Every parser takes what YAML or a command line gives (text or a number) and raises `InvalidValue`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from testbed.errors import InvalidValue
from testbed.topology.model import BitsPerSecond, Probability, QueueLimit, Seconds
from testbed.wording import quote, suggestion

_NUMBER: Final = r"(?:[0-9]{1,15}(?:\.[0-9]{1,15})?|\.[0-9]{1,15})"
_ZERO: Final = r"(?:0{1,15}(?:\.0{1,15})?|\.0{1,15})"
_ABSURD: Final = 1e18
_SPLIT = re.compile(rf"({_NUMBER})(?: ?(\S.{{0,30}}))?\Z")


def _either_case(text: str) -> str:
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in text)


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity: its units as factors of the base unit, and what is absurd.

    bare: which numbers without a unit are unambiguous (`zero`, `whole` or `none`);
    least and most bound the value in base units (0 passes where bare is `zero`).
    """

    name: str
    article: str
    example: str
    factors: Mapping[str, Decimal]
    least: float
    most: float
    bare: str = "none"
    any_case: bool = False
    suffix: str = ""
    whole: bool = False

    @property
    def expects(self) -> str:
        return f"{self.article} {self.name} such as {self.example}"

    @property
    def pattern(self) -> str:
        """A regular expression (ECMA 262 and Python) for the text form."""
        units = sorted(self.factors, key=lambda unit: (-len(unit), unit))
        words = [_either_case(unit) if self.any_case else unit for unit in units]
        tail = f"(?:{_either_case(self.suffix)})?" if self.suffix else ""
        bare = {"zero": rf"|{_ZERO}", "whole": r"|[0-9]{1,15}(?:\.0{1,15})?"}.get(self.bare, "")
        return f"^(?:{_NUMBER} ?(?:{'|'.join(words)}){tail}{bare})$"

    def fail(self, value: object, why: str) -> InvalidValue:
        return InvalidValue(f"expected {self.expects}, got {quote(value)}: {why}")

    def parse(self, value: object) -> float:
        """The value in base units. Raises InvalidValue."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._parse_bare(value, value)
        if not isinstance(value, str):
            raise InvalidValue(f"expected {self.expects}, got {quote(value)}")
        parts = _SPLIT.match(value)
        if parts is None:
            raise self.fail(value, self._unreadable(value))
        number, unit = parts[1], parts[2] or ""
        if not unit:
            return self._parse_bare(float(number), value)
        return self._bounded(float(Decimal(number) * self._factor(unit, value)), value)

    def _unreadable(self, value: str) -> str:
        if value.strip().startswith("-"):
            return "it cannot be negative"
        return "it is not a number followed by a unit"

    def _factor(self, unit: str, value: object) -> Decimal:
        word = unit
        if self.suffix and word.lower().endswith(self.suffix):
            word = word[: -len(self.suffix)]
        for known, factor in self.factors.items():
            if word == known or (self.any_case and word.lower() == known.lower()):
                return factor
        if self is RATE and re.fullmatch(r"[kmgt]?i?bps|[kmgt]?b/s", unit.lower()):
            why = f"{unit!r} is ambiguous (bits or bytes)"
            raise self.fail(value, f"{why}; did you mean {_bits_for(unit)!r}?")
        near = suggestion(word, self.factors, 0.3)
        raise self.fail(value, f"{quote(unit)} is no unit ({', '.join(self.factors)}){near}")

    def _parse_bare(self, number: float, value: object) -> float:
        if not abs(number) < _ABSURD:  # also what is no number at all
            raise self.fail(value, "it is not a sensible number")
        if number < 0:
            raise self.fail(value, "it cannot be negative")
        if (self.bare == "zero" and number == 0) or self.bare == "whole":
            return self._bounded(float(number), value)
        examples = ", ".join(f"{number:g}{unit}" for unit in list(self.factors)[1:4])
        raise self.fail(value, f"the unit is missing ({examples}, ...)")

    def _bounded(self, number: float, value: object) -> float:
        if number == 0 and self.bare == "zero":
            return 0.0
        if not self.least <= number <= self.most:
            low, high = self.format(self.least), self.format(self.most)
            raise self.fail(value, f"it must lie between {low} and {high}")
        if self.whole and number != int(number):
            raise self.fail(value, "it must be a whole number")
        return number

    def format(self, number: float) -> str:
        """Text for a value in base units, in the largest fitting unit that says it exactly, such as
        80s and not 1.33333333min, or else in the largest; `parse` reads it back."""
        units = list(self.factors.items())
        if number == 0:
            return f"0{units[0][0]}"
        fitting = [one for one in units if float(one[1]) <= number * (1 + 1e-12)] or units[:1]
        texts = [
            (f"{number / float(factor):.9g}", factor, unit) for unit, factor in reversed(fitting)
        ]
        exact = (one for one in texts if float(Decimal(one[0]) * one[1]) == number)
        text, _, unit = next(exact, texts[0])
        return f"{text}{unit}"


def _bits_for(unit: str) -> str:
    prefix = unit[0].lower()
    return f"{prefix}bit" if prefix in "kmgt" else "bit"


DURATION: Final = Quantity(
    name="duration",
    article="a",
    example="20ms or 1.5s",
    factors={
        "ns": Decimal("1e-9"),
        "us": Decimal("1e-6"),
        "ms": Decimal("1e-3"),
        "s": Decimal(1),
        "min": Decimal(60),
        "h": Decimal(3600),
    },
    least=1e-9,
    most=168 * 3600,
    bare="zero",
)
RATE: Final = Quantity(
    name="rate",
    article="a",
    example="100mbit or 2.5gbit",
    factors={
        "bit": Decimal(1),
        "kbit": Decimal(10**3),
        "mbit": Decimal(10**6),
        "gbit": Decimal(10**9),
        "tbit": Decimal(10**12),
    },
    least=1,
    most=1e14,
    any_case=True,
    suffix="/s",
)
SIZE: Final = Quantity(
    name="size",
    article="a",
    example="64KiB or 1500B",
    factors={
        "B": Decimal(1),
        "kB": Decimal(10**3),
        "KB": Decimal(10**3),
        "KiB": Decimal(2**10),
        "MB": Decimal(10**6),
        "MiB": Decimal(2**20),
        "GB": Decimal(10**9),
        "GiB": Decimal(2**30),
    },
    least=1,
    most=2**40,
    bare="whole",
    whole=True,
)
_BDP: Final = Quantity(
    name="multiple of the bandwidth-delay product",
    article="a",
    example="2 bdp",
    factors={"bdp": Decimal(1)},
    least=0.001,
    most=1000,
)
_PACKETS: Final = Quantity(
    name="number of packets",
    article="a",
    example="100 packets",
    factors={"packet": Decimal(1), "packets": Decimal(1)},
    least=1,
    most=10**8,
    whole=True,
)

_PERCENT = re.compile(rf"({_NUMBER}) ?%\Z")
PROBABILITY_EXPECTS: Final = "a probability such as 1% or 0.01"
PROBABILITY_PATTERN: Final = rf"^(?:{_NUMBER} ?%|0{{0,15}}\.[0-9]{{1,15}}|0{{1,15}})$"
_LIMIT_UNITS: Final = tuple(
    unit for kind in (_PACKETS, SIZE, DURATION, _BDP) for unit in kind.factors
)
QUEUE_LIMIT_PATTERN: Final = f"^{_NUMBER} ?(?:{'|'.join(_LIMIT_UNITS)})$"
QUEUE_LIMIT_EXPECTS: Final = "a queue limit such as 100 packets, 64KiB, 50ms or 2 bdp"


def parse_duration(value: object) -> Seconds:
    """Seconds from text such as `20ms`; 0 needs no unit. Raises InvalidValue."""
    return DURATION.parse(value)


def parse_rate(value: object) -> BitsPerSecond:
    """Bits per second from text such as `100mbit`. Raises InvalidValue."""
    return RATE.parse(value)


def parse_size(value: object) -> int:
    """Bytes from text such as `64KiB` or a whole number. Raises InvalidValue."""
    return int(SIZE.parse(value))


def parse_probability(value: object) -> Probability:
    """A probability from 0 to 1 from text such as `1%` or a number below 1. Raises InvalidValue."""
    number: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) if abs(value) < _ABSURD else math.inf
    elif isinstance(value, str):
        percent = _PERCENT.match(value)
        if percent:
            return _probability(float(Decimal(percent[1]) / 100), value)
        if re.fullmatch(_NUMBER, value):
            number = float(value)
    if number is None or not math.isfinite(number):
        raise InvalidValue(f"expected {PROBABILITY_EXPECTS}, got {quote(value)}")
    if number >= 1:
        raise InvalidValue(
            f"expected {PROBABILITY_EXPECTS}, got {quote(value)}: "
            f"write {min(number, 100):g}% if that is meant"
        )
    return _probability(number, value)


def _probability(number: float, value: object) -> float:
    if not 0 <= number <= 1:
        raise InvalidValue(
            f"expected {PROBABILITY_EXPECTS}, got {quote(value)}: it must lie between 0% and 100%"
        )
    return number


def parse_queue_limit(value: object) -> QueueLimit:
    """A queue limit from `100 packets`, `64KiB`, `50ms` or `2 bdp`. Raises InvalidValue."""
    if isinstance(value, str):
        parts = _SPLIT.match(value)
        unit = (parts[2] or "") if parts else ""
        if unit in _PACKETS.factors:
            return QueueLimit(_PACKETS.parse(value), "packets")
        if unit in _BDP.factors:
            return QueueLimit(_BDP.parse(value), "bdp")
        if unit in SIZE.factors:
            return QueueLimit(SIZE.parse(value), "bytes")
        if unit in DURATION.factors:
            return QueueLimit(_positive_duration(value), "seconds")
        if unit:
            why = f": {quote(unit)} is no unit{suggestion(unit, _LIMIT_UNITS, 0.3)}"
            raise InvalidValue(f"expected {QUEUE_LIMIT_EXPECTS}, got {quote(value)}{why}")
    raise InvalidValue(f"expected {QUEUE_LIMIT_EXPECTS}, got {quote(value)}")


def _positive_duration(value: str) -> float:
    seconds = DURATION.parse(value)
    if seconds == 0:
        raise DURATION.fail(value, "a queue needs room for something")
    return seconds


def format_duration(seconds: Seconds) -> str:
    """`0.02` -> `20ms`."""
    return DURATION.format(seconds)


def format_rate(rate: BitsPerSecond) -> str:
    """`1e8` -> `100mbit`."""
    return RATE.format(rate)


def format_size(size: float) -> str:
    """`65536` -> `64KiB`; powers of 1024 where they come out whole, else of 1000."""
    for unit in ("GiB", "MiB", "KiB"):
        factor = int(SIZE.factors[unit])
        if size >= factor and size % factor == 0:
            return f"{int(size) // factor}{unit}"
    for unit in ("GB", "MB", "kB"):
        if size >= SIZE.factors[unit]:
            return f"{size / float(SIZE.factors[unit]):.6g}{unit}"
    return f"{size:g}B"


def format_probability(probability: Probability) -> str:
    """`0.01` -> `1%`."""
    return f"{probability * 100:.6g}%"


def format_queue_limit(limit: QueueLimit) -> str:
    """`100 packets`, `64KiB`, `50ms` or `2 bdp`."""
    if limit.unit == "bytes":
        return format_size(limit.amount)
    if limit.unit == "seconds":
        return format_duration(limit.amount)
    return f"{limit.amount:g} {limit.unit}"
