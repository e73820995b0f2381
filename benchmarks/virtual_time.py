"""What virtual time costs and how exact it is, beside ns-3 and the same kernel by the real clock.

    python benchmarks/virtual_time.py [--rates 10,100] [--flows 1,20] [--megabytes 20] [--json FILE]
    python benchmarks/virtual_time.py --fast
    python benchmarks/virtual_time.py --exactness

A transfer of so many megabytes over one link, 10 ms each way, in so many flows with cubic. The
figure is processor seconds for each virtual second, which are seconds of waiting on a processor
that has nothing else to do; what starting takes, measured by a transfer of one kilobyte, is not in
it. ns-3 (Debian's libns3-dev and g++) carries the same bytes with its own TCP; it is compiled here.
By the real clock the figure tells how busy the processor was in each second.

`--fast` sends for ten seconds at 10 Gbit/s over a round trip of 100 ms, in segments of up to 64 KB,
and tells the goodput from the second second on. Linux gives its TCPs an eighth of the memory before
it throttles them, so this takes a kernel with 4 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.errors import TestbedError
from testbed.kernel.uml.boot import USUAL_MEMORY
from testbed.kernel.uml.store import find_kernel

INSIDE = Path(__file__).with_name("virtual_time_inside.py")
NS3 = Path(__file__).with_name("virtual_time_ns3.cc")
NS3_LIBRARIES = Path(f"/usr/lib/{os.uname().machine}-linux-gnu")
NS3_MODULES = ("core", "network", "internet", "point-to-point", "applications")
DELAY, CONTROL = "10ms", "cubic"
FAST_SECONDS, FAST_MEMORY = 10, "4G"

Figures = dict[str, float]


def spent(words: Sequence[str]) -> tuple[str, float]:
    """What a command prints and the processor seconds that it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: status {done.returncode}\n{done.stderr}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds


def inside(clock: str, *words: str, memory: str = USUAL_MEMORY) -> tuple[str, float]:
    kernel = find_kernel().name
    prefix = [sys.executable, "-m", "testbed.kernel.uml", "--kernel", kernel, "--clock", clock]
    prefix += ["--memory", memory]
    return spent([*prefix, "--", sys.executable, str(INSIDE), *words])


def ours(clock: str) -> Callable[[int, int, int], Figures]:
    def measure(rate: int, size: int, flows: int) -> Figures:
        words = [f"{rate}mbit", DELAY]
        _, start = inside(clock, "transfers", *words, str(1000 * flows), str(flows), CONTROL)
        told, whole = inside(clock, "transfers", *words, str(size), str(flows), CONTROL)
        return {**json.loads(told), "processor": whole - start}

    return measure


def ns3(program: Path) -> Callable[[int, int, int], Figures]:
    def measure(rate: int, size: int, flows: int) -> Figures:
        told, whole = spent([str(program), str(rate), str(size), str(flows)])
        return {**json.loads(told), "processor": whole}

    return measure


def compile_ns3(folder: Path) -> Path | None:
    """The program, or None where the packages are not installed."""
    libraries = [next(NS3_LIBRARIES.glob(f"libns3*-{name}.so"), None) for name in NS3_MODULES]
    if shutil.which("g++") is None or None in libraries:
        return None
    program = folder / "bulk"
    words = ["g++", "-O2", "-std=c++17", str(NS3), "-o", str(program), *map(str, libraries)]
    subprocess.run(words, check=True)
    return program


def compare(arguments: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: ours(name) for name in arguments.clocks}
        if (program := compile_ns3(Path(folder))) is not None:
            ways["ns-3"] = ns3(program)
        print(
            f"{'Mbit/s':>7} {'flows':>5} {'':8} {'CPU s per s':>11} {'us per packet':>13} goodput"
        )
        for rate in arguments.rates:
            for flows in arguments.flows:
                for name, measure in ways.items():
                    found = measure(rate, int(arguments.megabytes * 1e6), flows)
                    each = found["processor"] / found["seconds"]
                    packet = 1e6 * found["processor"] / found["packets"]
                    rows.append({"rate": rate, "flows": flows, "way": name, **found})
                    print(
                        f"{rate:7} {flows:5} {name:8} {each:11.2f} {packet:13.1f} "
                        f"{found['mbps']:.1f} Mbit/s",
                        flush=True,
                    )
    return rows


def fast(seconds: int = FAST_SECONDS) -> dict[str, Figures]:
    found = {}
    for control in ("bbr", "cubic"):
        told, whole = inside("virtual", "fast", control, str(seconds), memory=FAST_MEMORY)
        found[control] = {**json.loads(told), "processor": whole}
        print(
            f"10 Gbit/s x 100 ms, {control}: {found[control]['mbps'] / 1000:.2f} Gbit/s, "
            f"{seconds} virtual seconds in {whole:.1f} s of a processor",
            flush=True,
        )
    return found


def exactness() -> dict[str, dict[str, dict[str, float]]]:
    told, _ = inside("virtual", "exactness")
    found = json.loads(told)
    print(f"{'difference from what was asked for':52} {'median':>8} {'greatest':>8}")
    for name, errors in found["errors"].items():
        print(f"{name:52} {errors['median']:5.0f} ns {errors['greatest']:5.0f} ns")
    print("retransmissions, ms after the one before:")
    for name, gaps in found["time_outs"].items():
        print(f"{name:>9}: " + "  ".join(f"{gap:.3f}" for gap in gaps))
    return found


def main() -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=numbers, default=[10, 100, 1000, 10000], metavar="MBIT/S")
    parser.add_argument("--flows", type=numbers, default=[1, 20, 100])
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--clocks", type=lambda text: text.split(","), default=["virtual", "real"])
    parser.add_argument("--exactness", action="store_true", help="how exact it is, instead")
    parser.add_argument("--fast", action="store_true", help="10 Gbit/s x 100 ms, instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    arguments = parser.parse_args()
    try:
        if arguments.fast:
            found: object = fast()
        else:
            found = exactness() if arguments.exactness else compare(arguments)
    except TestbedError as error:
        raise SystemExit(str(error)) from None
    if arguments.json is not None:
        told = {"kernel": find_kernel().name, "processors": os.cpu_count(), "found": found}
        arguments.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
