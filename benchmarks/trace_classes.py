"""How right the classes of segments are, by the fates that the emulator logs, beside other tools.

    testbed exec --clock virtual benchmarks/trace_classes.py [--only CASE ...] [--json]

By the virtual clock the figures are the same every time; without `testbed exec` it is the real one.
Each case is a lab: a sender, a link with impairments and `log: true`, a receiver; captured at
both ends. What was sent is known from the sender's capture, in which nothing is missing, and what
arrived from the log: with the two, a loop over single bytes tells of every segment what it is.
That is the truth for the classes; the kernel's counters are the truth for the reasons. tshark's
`tcp.analysis` and the count of tcptrace are for the same files; so is how much of what was sent
again tshark takes for out of order.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from testbed import Lab, loads, read_trace
from testbed.trace import Connection, RepeatReason, SegmentClass, read_fates
from testbed.traffic import transfer

_TOPOLOGY = """
name: truth
emulator: userspace
nodes: {a: {congestion_control: cubic}, b: {congestion_control: cubic}}
links:
  - endpoints: [a:eth0, b:eth0]
    rate: 20mbit
    forward: {delay: 10ms FORWARD}
    reverse: {delay: 10ms}
    log: true
captures: [a:eth0, b:eth0]
"""
_COUNTERS = (
    "TCPTimeouts", "TCPLossProbes", "TCPFastRetrans", "TCPSlowStartRetrans", "TCPDSACKRecv",
)  # fmt: skip
_TSHARK = {
    "retransmission": "tcp.analysis.retransmission || tcp.analysis.fast_retransmission"
    " || tcp.analysis.spurious_retransmission",
    "reordered": "tcp.analysis.out_of_order",
}


def large(lab: Lab) -> None:
    transfer(lab["a"], lab["b"], 2_000_000)


def bulk(lab: Lab) -> None:
    transfer(lab["a"], lab["b"], 600_000)


def short(lab: Lab) -> None:
    for _ in range(60):
        transfer(lab["a"], lab["b"], 20_000)


def outage(lab: Lab) -> None:
    """The link is cut for some 0.7 s in the middle of a transfer."""
    listener = lab["b"].socket()
    listener.bind((lab["b"].address, 0))
    listener.listen()
    sender = lab["a"].socket()
    sender.connect(listener.getsockname())
    accepted, _ = listener.accept()
    with listener, sender, accepted:
        sender.sendall(bytes(20_000))
        receive(accepted, 20_000)
        lab.link("a", "b").cut()
        sender.sendall(bytes(20_000))
        lab["a"].run(["sleep", "0.7"])
        lab.link("a", "b").restore()
        receive(accepted, 20_000)


def receive(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


CASES: dict[str, tuple[str, Callable[[Lab], None]]] = {
    "loss 1%": (", loss: 1%", large),
    "loss 5%": (", loss: 5%", large),
    "short, loss 5%": (", loss: 5%", short),
    "reordering 3%": (", reorder: {probability: 3%, gap: 3}", bulk),
    "duplication 3%": (", duplicate: 3%", bulk),
    "all three": (", loss: 2%, reorder: {probability: 2%, gap: 3}, duplicate: 1%", bulk),
    "outage": ("", outage),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.json:
        json.dump([measure(name) for name in arguments.only], sys.stdout, indent=1)
        return
    for name in arguments.only:
        show(measure(name))


def measure(name: str, *, others: bool = True) -> dict[str, Any]:
    """Run one case and compare; `others`: with the other tools, too."""
    forward, load = CASES[name]
    text = _TOPOLOGY.replace(" FORWARD", forward)
    with tempfile.TemporaryDirectory() as folder:
        with Lab(loads(text), captures=Path(folder)) as lab:
            load(lab)
            fates = Path(lab.link("a", "b").fates or "")
            counted = lab["a"].protocol_counters()
        near, far = (Path(folder, f"{node}-eth0.pcap") for node in "ab")
        truth = Truth(read_trace(near).connections, fates)
        return {
            "case": name,
            "sender": compare(near, truth.at_sender(), others),
            "receiver": compare(far, truth.at_receiver(read_trace(far).connections), others),
            "needless": compare_needless(near, truth),
            "counters": {name: counted["TcpExt"].get(name, 0) for name in _COUNTERS},
            "sent again": counted["Tcp"].get("RetransSegs", 0),
            "reasons": reasons(read_trace(near).connections),
            "tcptrace": tcptrace(near) if others else None,
        }


class Truth:
    """What each segment of the senders was, and whether it arrived, by single bytes."""

    def __init__(self, connections: Iterable[Connection], fates: Path) -> None:
        log = [fate for fate in read_fates(fates) if fate.direction == "forward"]
        log.sort(key=lambda fate: fate.number)
        arrived: dict[int, tuple[int, bool]] = {}
        for fate in log:
            size, was = arrived.get(fate.number, (fate.size, False))
            arrived[fate.number] = size, was or not fate.dropped
        queue = iter(arrived.values())
        sent = sorted(
            (segment.number, connection, row)
            for connection in connections
            for row, segment in enumerate(connection.segments)
            if connection.is_outward(segment)
        )
        self.again: dict[int, bool] = {}
        self.needed: dict[int, bool] = {}
        self.by_packet: dict[tuple[int, int, int], bool] = {}
        passed: dict[tuple[int, int], bool] = {}  # byte: whether it has arrived
        for number, connection, row in sent:
            table = connection.table
            size = 14 + int(table.ip_distance[row]) + int(table.header_length[row])
            size += int(table.length[row])
            delivered = next(was for wanted, was in queue if wanted == size)
            segment = connection.segments[row]
            bytes_ = [(connection.number, segment.seq + n) for n in range(segment.span)]
            self.again[number] = any(one in passed for one in bytes_)
            self.needed[number] = not all(passed.get(one, False) for one in bytes_)
            key = connection.number, segment.ip_identification or 0, segment.seq
            self.by_packet[key] = self.again[number]
            for one in bytes_:
                passed[one] = passed.get(one, False) or delivered

    def at_sender(self) -> dict[int, str]:
        return {number: "retransmission" for number, again in self.again.items() if again}

    def at_receiver(self, connections: Iterable[Connection]) -> dict[int, str]:
        """The class by frame number of everything unusual that arrived.

        What was lost with all that was sent behind it is new there: no hole shows that it was.
        """
        found: dict[int, str] = {}
        for connection in connections:
            seen: set[int] = set()
            packets: set[tuple[int, int, int, int]] = set()
            for segment in connection.segments:
                if not connection.is_outward(segment):
                    continue
                identification = segment.ip_identification or 0
                packet = identification, segment.seq, segment.ack, segment.length
                if packet in packets:
                    found[segment.number] = "duplicate"
                    continue
                packets.add(packet)
                bytes_ = range(segment.seq, segment.seq + segment.span)
                again = self.by_packet.get((connection.number, identification, segment.seq), False)
                if any(one in seen for one in bytes_):
                    found[segment.number] = "retransmission"
                elif again and seen and segment.seq < max(seen):
                    found[segment.number] = "fills a hole"
                elif bytes_ and seen and segment.seq < max(seen):
                    found[segment.number] = "reordered"
                seen.update(bytes_)
        return found


_KINDS = {
    SegmentClass.RETRANSMISSION: "retransmission",
    SegmentClass.FILLS_HOLE: "fills a hole",
    SegmentClass.REORDERED: "reordered",
    SegmentClass.DUPLICATE: "duplicate",
}


def compare(path: Path, truth: dict[int, str], others: bool) -> dict[str, dict[str, Any]]:
    """By class: how many there are, and precision and recall of testbed's and of tshark's."""
    ours: dict[int, str] = {}
    for connection in read_trace(path).connections:
        analysis = connection.analysis
        for row in analysis.rows(*_KINDS, side=0).tolist():
            if connection.segments[row].span:
                ours[connection.segments[row].number] = _KINDS[analysis.kind(row)]
    found = {}
    for kind in _KINDS.values():
        wanted = {number for number, what in truth.items() if what == kind}
        mine = {number for number, what in ours.items() if what == kind}
        if wanted or mine:
            found[kind] = {"truth": len(wanted), "testbed": score(mine, wanted)}
    again = {n for n, what in truth.items() if what in ("retransmission", "fills a hole")}
    mine = {n for n, what in ours.items() if what in ("retransmission", "fills a hole")}
    found["sent again"] = {"truth": len(again), "testbed": score(mine, again)}
    theirs = tshark(path, _TSHARK["retransmission"]) if others else None
    if theirs is not None:
        found["sent again"]["tshark"] = score(theirs, again)
        overtaken = tshark(path, _TSHARK["reordered"]) or set()
        found["sent again"]["out of order"] = len(again & overtaken)
        if "reordered" in found:
            late = {n for n, what in truth.items() if what == "reordered"}
            found["reordered"]["tshark"] = score(overtaken, late)
    return found


def compare_needless(path: Path, truth: Truth) -> dict[str, Any]:
    """Of what was sent again, what need not have been."""
    wanted = {n for n, again in truth.again.items() if again and not truth.needed[n]}
    mine = {
        segment.number
        for connection in read_trace(path).connections
        for segment in connection.by_initiator.retransmissions(needless=True)
    }
    return {"truth": len(wanted), "testbed": score(mine, wanted)}


def score(found: set[int], wanted: set[int]) -> dict[str, float | int]:
    right = len(found & wanted)
    return {
        "found": len(found),
        "precision": right / len(found) if found else 1.0,
        "recall": right / len(wanted) if wanted else 1.0,
    }


def reasons(connections: Iterable[Connection]) -> dict[str, int]:
    """How many segments of each reason; time-outs are those with which a timer fired."""
    found: Counter[str] = Counter()
    for connection in connections:
        for one in connection.analysis.repeats_of(0):
            fired = one.reason is RepeatReason.TIMEOUT and not one.timer
            found["after a time-out" if fired else one.reason.name.lower()] += 1
    return dict(found)


def tshark(path: Path, wanted: str) -> set[int] | None:
    """The frames from the sender for which a filter holds."""
    program = shutil.which("tshark")
    if program is None:
        return None
    command = [program, "-n", "-r", str(path), "-Y", f"{wanted}", "-T", "fields"]
    command += ["-e", "frame.number"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    numbers = {int(line) for line in result.stdout.splitlines()}
    outward = {
        segment.number
        for connection in read_trace(path).connections
        for segment in connection.by_initiator.segments
    }
    return numbers & outward


def tcptrace(path: Path) -> int | None:
    """How many segments with data tcptrace takes for retransmissions, from the initiators."""
    program = shutil.which("tcptrace")
    if program is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".pcap") as micro:
        subprocess.run(["editcap", "-F", "pcap", path, micro.name], check=True, capture_output=True)
        told = subprocess.run([program, "-l", "-n", micro.name], check=True, capture_output=True)
    found = re.findall(rb"rexmt data pkts:\s+(\d+)\s+rexmt data pkts", told.stdout)
    return sum(map(int, found))


def show(found: dict[str, Any]) -> None:
    print(f"\n{found['case']}")
    for where in ("sender", "receiver"):
        for kind, one in found[where].items():
            row = f"  {where:9} {kind:15} {one['truth']:5}  "
            for tool in ("testbed", "tshark"):
                if tool in one:
                    s = one[tool]
                    row += f"{tool} {s['found']:5} precision {s['precision']:.3f} "
                    row += f"recall {s['recall']:.3f}   "
            if "out of order" in one:
                row += f"out of order to tshark {one['out of order']}"
            print(row)
    one = found["needless"]
    ours = one["testbed"]
    right = f"precision {ours['precision']:.3f} recall {ours['recall']:.3f}"
    print(f"  needless {one['truth']}: {right}")
    print(f"  tcptrace counts {found['tcptrace']} at the sender")
    print(f"  kernel sent again {found['sent again']}; {found['counters']}")
    print(f"  reasons {found['reasons']}", flush=True)


if __name__ == "__main__":
    main()
