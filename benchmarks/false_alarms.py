"""What the checks say of clean transfers between two Linux TCPs, captured at both ends.

testbed exec --clock virtual benchmarks/false_alarms.py [--part N/M] [--no-sack] [--keep FOLDER]

Each congestion control that the kernel has, over delays, losses and reordering. No check may say
`fail` but for what Linux does deviate in; exit status 1 if one does. Prints how often each check
gave each answer, as a table for docs/conformance.md.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from testbed import Lab, loads
from testbed.conformance import Answer, Circumstances, Finding, all_checks, check_trace
from testbed.trace import read_trace
from testbed.traffic import transfer

AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
DELAYS = ("1ms", "20ms", "150ms")
LOSSES = ("0%", "2%")
REORDERING = ("", ", reorder: {probability: 1%, gap: 5}")
RATE = "20mbit"
#: The applications of these labs change nothing and close right after their last write.
KNOWN = Circumstances(default_settings=True, plain_close=True)
#: hybla begins with a window of the round trip over 25 ms (net/ipv4/tcp_hybla.c, `hybla_init`).
TRUE_FAILURES = {("hybla", "150ms", "no-initial-slow-start")}
Cell = tuple[str, str, str, str]


def cells() -> Iterator[Cell]:
    """Congestion control, delay, loss and reordering of each transfer."""
    controls = sorted({*AVAILABLE.read_text().split()} - {"dctcp"})  # that is reno without ECN
    yield from itertools.product(controls, DELAYS, LOSSES, REORDERING)


def judged(cell: Cell, size: int, folder: Path, *, sack: bool) -> list[Finding]:
    """What the checks say of one transfer at both of its ends."""
    control, delay, loss, reordering = cell
    node = f"{{congestion_control: {control}, sysctls: {{net.ipv4.tcp_sack: {sack:d}}}}}"
    topology = loads(
        f"{{name: clean, seed: 1, nodes: {{a: {node}, b: {node}}}, captures: [a, b], "
        f"links: [{{endpoints: [a, b], rate: {RATE}, delay: {delay}, "
        f"forward: {{loss: {loss}{reordering}}}}}]}}"
    )
    with Lab(topology, captures=folder) as lab:
        transfer(lab["a"], lab["b"], size, timeout=600.0)
    found = []
    for path in sorted(folder.glob("*.pcap")):
        found += check_trace(read_trace(path), known=KNOWN)
    return found


def table(answers: Counter[tuple[str, Answer]]) -> str:
    """The counts, in Markdown."""
    lines = ["| check | pass | fail | inconclusive |", "|---|---|---|---|"]
    for problem in all_checks():
        counts = " | ".join(f"{answers[problem, answer]:,}" for answer in Answer)
        lines.append(f"| `{problem}` | {counts} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1", help="only the Nth of M parts of the transfers")
    parser.add_argument("--no-sack", action="store_true", help="both ends do without SACK")
    parser.add_argument("--size", type=int, default=700_000, help="bytes of each transfer")
    parser.add_argument("--keep", type=Path, help="where to leave captures with a failure")
    arguments = parser.parse_args()
    number, parts = (int(word) for word in arguments.part.split("/"))
    answers: Counter[tuple[str, Answer]] = Counter()
    false = transfers = 0
    for index, cell in enumerate(cells()):
        if index % parts != number - 1:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = judged(cell, arguments.size, Path(folder), sack=not arguments.no_sack)
            transfers += 1
            answers.update((one.problem, one.answer) for one in found)
            failed = [one for one in found if one.answer is Answer.FAIL]
            for one in failed:
                print(cell, one.endpoint, one.problem, one.sentence, one.segments[:6])
            if failed and arguments.keep is not None:
                kept = arguments.keep / f"{index}-{'-'.join(cell[:3])}"
                shutil.copytree(folder, kept, dirs_exist_ok=True)
            false += sum((*cell[:2], one.problem) not in TRUE_FAILURES for one in failed)
    print(f"\n{transfers} transfers, {sum(answers.values()):,} answers, {false} false failures\n")
    print(table(answers))
    sys.exit(1 if false else 0)


if __name__ == "__main__":
    main()
