"""Whether a frame arrives, how often, and whether it is still the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.topology import names
from testbed.topology.impairments.declaration import (
    CORRELATION,
    Impairment,
    probability,
    share_problems,
)
from testbed.topology.model import (
    Chance,
    Corrupt,
    DropRule,
    FourState,
    GilbertElliott,
    Impairments,
)
from testbed.topology.problems import Path, Problem
from testbed.topology.values import scalars
from testbed.topology.values.scalars import NUMBER, PROBABILITY
from testbed.topology.values.shapes import Either, Items, Key, Record, Variants
from testbed.wording import join, quote

_COUNTS: Final = ("packet", "data_segment", "retransmission", "flags")


def _loss_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    if not 0 <= given.loss <= 1:
        yield Problem(path, f"expected 0 to 1, got {given.loss!r}")
    model = given.loss_model
    if given.loss and model is not None:
        yield Problem(path, "independent losses and a model of them; one of the two")
    yield from share_problems(path, model)
    if isinstance(model, FourState):
        for first, second in (("p13", "p14"), ("p31", "p32")):
            total = (getattr(model, first) or 0) + getattr(model, second)
            if total > 1:
                yield Problem(path, f"{first} and {second} come to {total:.9g}, more than 100%")


def _drop_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    for index, rule in enumerate(given.drop):
        yield from _rule_problems((*path, index), rule)


def _rule_problems(path: Path, rule: DropRule) -> Iterator[Problem]:
    asked = [name for name in _COUNTS if getattr(rule, name) is not None]
    if len(asked) != 1:
        found = join(asked, "and") or "none"
        yield Problem(path, f"expected exactly one of {join(_COUNTS)}, got {found}")
    if rule.flags is None and rule.nth != 1:
        yield Problem((*path, "nth"), "only `flags` are counted by `nth`")
    for name in ("packet", "data_segment", "retransmission", "nth", "connection"):
        value = getattr(rule, name)
        if value is not None and value < 1:
            yield Problem((*path, name), f"it counts from 1, got {value!r}")
    if rule.flags is not None and not names.matches(names.TCP_FLAGS, rule.flags):
        text = f"expected TCP flags such as SYN or FIN+ACK, got {quote(rule.flags)}"
        yield Problem((*path, "flags"), text)


def _duplicate_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    yield from share_problems(path, given.duplicate)


def _corrupt_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    yield from share_problems(path, given.corrupt)


_GILBERT_ELLIOTT: Final = Record(
    "gilbert-elliott",
    "Losses in bursts: a good and a bad state (tc-netem(8), `loss gemodel`).",
    (
        Key("p", PROBABILITY, "From good to bad, per packet.", required=True),
        Key("r", PROBABILITY, "From bad to good, per packet.", default="1 - p"),
        Key("bad_loss", PROBABILITY, "Of loss in the bad state.", default="`100%`"),
        Key("good_loss", PROBABILITY, "Of loss in the good state.", default="`0`"),
    ),
    build=GilbertElliott,
)
_FOUR_STATE: Final = Record(
    "state",
    "Four states: 1 good, 2 good within a burst, 3 lost within a burst, 4 lost alone "
    "(tc-netem(8), `loss state`); `pXY` is the probability of going from X to Y.",
    (
        Key("p13", PROBABILITY, "A burst begins.", required=True),
        Key("p31", PROBABILITY, "A burst ends.", default="1 - p13"),
        Key("p32", PROBABILITY, "A pause within a burst begins.", default="`0`"),
        Key("p23", PROBABILITY, "A pause within a burst ends.", default="`100%`"),
        Key("p14", PROBABILITY, "A packet is lost alone.", default="`0`"),
    ),
    build=FourState,
)
_DROP_RULE: Final = Record(
    "drop-rule",
    "One packet that is to be lost, counted from 1: by exactly one of `packet`, `data_segment`, "
    "`retransmission` and `flags`. Userspace emulator only.",
    (
        Key("packet", NUMBER, "The n-th IP packet."),
        Key("data_segment", NUMBER, "The n-th TCP segment with new data."),
        Key("retransmission", NUMBER, "The n-th TCP segment that repeats sequence numbers."),
        Key(
            "flags",
            scalars.FLAGS,
            "The `nth` TCP segment that has all of these; SYN alone does not mean SYN+ACK.",
        ),
        Key("nth", NUMBER, "With `flags`: which one.", default="`1`"),
        Key("connection", NUMBER, "Count in the n-th TCP connection only.", default="all"),
    ),
    build=DropRule,
)
_CHANCE: Final = Record(
    "chance",
    "Something that happens to each packet with a probability.",
    (probability("Of each packet."), CORRELATION),
    build=Chance,
)
_CORRUPT: Final = Record(
    "corrupt",
    "One bit flipped at random; checksums are left as they were, and so are wrong.",
    (
        probability("Of each packet."),
        CORRELATION,
        Key(
            "where",
            scalars.CORRUPTED,
            "In the IP and transport headers, in what follows them, or anywhere.",
            default="`any`",
        ),
    ),
    build=Corrupt,
)
LOSS: Final = Impairment(
    key=Key(
        "loss",
        Either(
            PROBABILITY,
            Variants(
                Key("model", scalars.LOSS_MODEL, "Which one.", required=True),
                {"gilbert-elliott": _GILBERT_ELLIOTT, "state": _FOUR_STATE},
            ),
        ),
        "Probability that a packet is lost, independently; or a model of losses in bursts.",
        default="`0`",
    ),
    fields={"loss": (float,), "loss_model": (GilbertElliott, FourState)},
    problems=_loss_problems,
    number=float,
)
DROP: Final = Impairment(
    key=Key("drop", Items(_DROP_RULE, most=1000), "Packets that are lost for certain."),
    fields={"drop": (DropRule,)},
    problems=_drop_problems,
)
DUPLICATE: Final = Impairment(
    key=Key(
        "duplicate",
        Either(PROBABILITY, _CHANCE, lambda p: Chance(probability=p) if p else None),
        "Probability that a packet comes twice.",
        default="`0`",
    ),
    fields={"duplicate": (Chance,)},
    problems=_duplicate_problems,
)
CORRUPT: Final = Impairment(
    key=Key(
        "corrupt",
        Either(PROBABILITY, _CORRUPT, lambda p: Corrupt(probability=p) if p else None),
        "Probability that a bit of a packet is flipped.",
        default="`0`",
    ),
    fields={"corrupt": (Corrupt,)},
    problems=_corrupt_problems,
)
