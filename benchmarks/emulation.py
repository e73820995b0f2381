"""How exact and how fast emulated links are, beside other emulators.

    python benchmarks/emulation.py [--repeats 3] [--json FILE] [--plot FILE.svg] [--quick]

A path joins two network namespaces, with an emulator in its middle; the conditions are those of
both directions. Measured are:

- delay: packets 10 ms apart, from just before send() to the stamp of the receiving kernel, less
  the delay that was set. The error contains what the path takes without delay, which is given
  first. "Handed over late" is the emulator's own account of itself;
- rate: goodput of one TCP connection under cubic, beside what the rate has room for (1448 bytes
  of each full-sized packet): from a quarter of the time on, the median of the rates over every
  half of what remains. And the emulator's processor time;
- queue: how long packets wait in a full queue of 100 packets at 10 Mbit/s, beside limit/rate;
- speed: TCP where no rate is set, and the highest rate, in steps of 40,000/s, at which packets
  of 64 bytes pass one way without one being lost;
- processor: what a packet costs, at several packet rates;
- many: 20 links of one lab, each with a TCP connection at 10 Mbit/s and spaced packets the
  other way, all at once.

The emulators are `userspace`, this project's own; `netem`, where this kernel has it; `uml`: netem
inside User-Mode Linux, which has one processor and slow system calls, so that it is given only
the first three, up to 100 Mbit/s; and `mahimahi`, where its programs are found. They take turns
in every repetition. Figures are medians, with the smallest and the largest; "x mahimahi" is the
median of the repetitions' ratios. Let nothing else run meanwhile; it takes about six minutes a
repetition.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from emulation_mahimahi import Mahimahi
from emulation_many import many
from emulation_measure import MEASUREMENTS, Emulator, Scale
from emulation_paths import LabEmulator, Unavailable
from emulation_result import Results, lines

from testbed.errors import TestbedError
from testbed.kernel.uml import boot as uml

UML = "netem in User-Mode Linux"
UML_MEASUREMENTS, UML_MOST_RATE = ("delay", "rate", "queue"), 100
UML_TIMEOUT = 900.0
EMULATORS = ("userspace", "netem", "uml", "mahimahi")
QUICK = Scale(seconds=1.0, packets=100)


def main() -> None:
    arguments = parse()
    scale = scale_of(arguments)
    results = Results(
        settings={
            "quick": arguments.quick,
            "repeats": arguments.repeats,
            **dataclasses.asdict(scale),
        },
        load_average=os.getloadavg()[0],
    )
    run(arguments, scale, results)
    for line in lines(results):
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(results.as_json()) + "\n")
    if arguments.plot:
        from emulation_plot import plot  # takes a second to import

        plot(results, arguments.plot)
    if results.failures:
        sys.exit(1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=Scale.seconds, help="of each TCP stream")
    parser.add_argument("--packets", type=int, default=Scale.packets, help="spaced ones per delay")
    parser.add_argument("--rates", type=listed(float), default=Scale.rates, help="in Mbit/s")
    parser.add_argument("--links", type=int, default=Scale.links, help="that are loaded at once")
    parser.add_argument("--emulators", type=listed(str, EMULATORS), default=EMULATORS)
    measurements = (*MEASUREMENTS, "many")
    parser.add_argument("--measurements", type=listed(str, measurements), default=measurements)
    parser.add_argument("--mahimahi", type=Path, help="the folder of mm-delay and mm-link")
    parser.add_argument("--json", type=Path, help="write every repetition and sample to it")
    parser.add_argument("--plot", type=Path, help="write a figure to it, such as FILE.svg")
    parser.add_argument("--quick", action="store_true", help="one short repetition, not to cite")
    return parser.parse_args()


def listed(
    kind: Callable[[str], object], known: tuple[str, ...] = ()
) -> Callable[[str], tuple[object, ...]]:
    """A parser of words with commas between them."""

    def parse_words(text: str) -> tuple[object, ...]:
        words = text.split(",")
        if unknown := [word for word in words if known and word not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return tuple(map(kind, words))

    return parse_words


def scale_of(arguments: argparse.Namespace) -> Scale:
    if arguments.quick:
        arguments.repeats = 1
        return dataclasses.replace(QUICK, rates=arguments.rates, links=arguments.links)
    return Scale(arguments.seconds, arguments.packets, arguments.rates, arguments.links)


def run(arguments: argparse.Namespace, scale: Scale, results: Results) -> None:
    """Every repetition: one measurement after the other, the emulators taking turns."""
    emulators = available(arguments, results)
    with_uml = "uml" in arguments.emulators and not uml.inside()
    if with_uml and shutil.which("linux.uml") is None:
        results.absent[UML] = "it needs the Debian package user-mode-linux"
        with_uml = False
    for repeat in range(1, arguments.repeats + 1):
        for name in arguments.measurements:
            for emulator in emulators:
                if name == "many" and not isinstance(emulator, LabEmulator):
                    continue
                progress(f"repetition {repeat}: {name} of {emulator.name}")
                measure = MEASUREMENTS.get(name, many)
                try:
                    results.add(emulator.name, measure(emulator, scale))
                except TestbedError as error:
                    results.failures.append(f"{name} of {emulator.name}: {error}")
            emulators.reverse()
        if with_uml:
            progress(f"repetition {repeat}: {UML}")
            measure_in_uml(arguments, scale, results)


def progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def available(arguments: argparse.Namespace, results: Results) -> list[Emulator]:
    """Those of the emulators asked for that this machine has; why it has not the others."""
    makers: dict[str, Callable[[], Emulator]] = {
        "userspace": lambda: LabEmulator("userspace"),
        "netem": lambda: LabEmulator("netem"),
        "mahimahi": lambda: Mahimahi(arguments.mahimahi),
    }
    found = []
    for name in arguments.emulators:
        if name in makers:
            try:
                found.append(makers[name]())
            except Unavailable as reason:
                results.absent[name] = str(reason)
    return found


def measure_in_uml(arguments: argparse.Namespace, scale: Scale, results: Results) -> None:
    """One repetition of this very program inside User-Mode Linux, with netem there."""
    rates = [rate for rate in scale.rates if rate <= UML_MOST_RATE]
    measurements = [
        name
        for name in UML_MEASUREMENTS
        if name in arguments.measurements and (rates or name != "rate")
    ]
    if not measurements:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        options = {
            "emulators": "netem",
            "measurements": ",".join(measurements),
            "repeats": 1,
            "seconds": scale.seconds,
            "packets": scale.packets,
            "rates": ",".join(map(str, rates or scale.rates)),
            "json": file,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        inner = [sys.executable, str(Path(__file__).resolve()), *words]
        outer = [sys.executable, "-m", "testbed.kernel.uml", "-w", folder, "--"]
        command = [*outer, *inner]
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, check=False, timeout=UML_TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            results.failures.append(f"{UML}: {error}")
            return
        if file.exists():
            results.add_from(UML, json.loads(file.read_text()), "netem")
        else:
            results.failures.append(f"{UML}: it ended with status {done.returncode}")


if __name__ == "__main__":
    main()
