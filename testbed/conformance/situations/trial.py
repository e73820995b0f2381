"""One trial: a subject in a situation, and what the check says of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from testbed.conformance.finding import Answer, Finding
from testbed.conformance.judging import check_trace
from testbed.conformance.party import Circumstances
from testbed.conformance.situations.registry import Situation
from testbed.conformance.situations.stage import PATH, PEER, SUBJECT, Stage
from testbed.kernel.clock import waits_are_exact
from testbed.lab import Lab
from testbed.topology.kinds.host import FAULT, IMPLEMENTATION, USERSPACE
from testbed.topology.model import Topology
from testbed.topology.vary import with_function, with_node
from testbed.trace import Trace, read_trace
from testbed.trace.pcap import CaptureFile
from testbed.trace.pcap_writing import pcap_header, pcap_record

Implementation: TypeAlias = Literal["linux", "testbed-tcp"]

# No program here changes what TCP does by default, nor shuts down a single direction.
_KNOWN: Final = Circumstances(default_settings=True, plain_close=True)


class Subject(msgspec.Struct, frozen=True):
    """Whose TCP is looked at. fault: whether it has the problem of the situation."""

    implementation: Implementation
    fault: bool = False


class Trial(msgspec.Struct, frozen=True):
    """What the checks say; of each end as its own capture shows it.

    by_rfc2525: of the subject, held to the RFCs of 1999. scale: see `Situation`.
    """

    subject: Finding
    peer: Finding
    by_rfc2525: Finding
    scale: int


def topology_for(base: Topology, situation: Situation, subject: Subject) -> Topology:
    """The topology of a trial. base: one with the nodes subject, path and peer."""
    topology = base
    if subject.implementation == USERSPACE:
        settings: dict[str, str] = {IMPLEMENTATION: USERSPACE}
        if subject.fault:
            settings[FAULT] = situation.problem
        topology = with_node(topology, SUBJECT, settings=settings, congestion_control=None)
    if situation.needs_own_peer:
        settings = {IMPLEMENTATION: USERSPACE}
        topology = with_node(topology, PEER, settings=settings, congestion_control=None)
    if not situation.sack:
        for name in (SUBJECT, PEER):
            sysctls = {**topology.nodes[name].sysctls, "net.ipv4.tcp_sack": "0"}
            topology = with_node(topology, name, sysctls=sysctls)
    if situation.strips_mss:
        topology = with_node(topology, PATH, kind="middlebox", outside=SUBJECT)
        topology = with_function(topology, PATH, "options", strip=["mss"], direction="outward")
    return topology


def carry_out(
    situation: Situation,
    open_lab: Callable[[], AbstractContextManager[Lab]],
    captures: Callable[[], dict[str, Path]],
) -> Trial:
    """Drive a lab through the situation, and judge its captures.

    open_lab: makes the lab. captures: their files, once it has ended. By the real clock time-outs
    of hours are shortened, and the times of the captures stretched before they are judged.
    """
    scale = 1 if waits_are_exact() else situation.scale
    with open_lab() as lab:
        stage = Stage(lab, scale)
        try:
            situation.drive(stage)
        finally:
            stage.close()
        addresses = {name: lab[name].address for name in (SUBJECT, PEER)}
    files = captures()
    traces = {name: stretched(files[f"{name}:eth0"], scale) for name in (SUBJECT, PEER)}

    def finding(end: str, profile: str) -> Finding:
        asked = [situation.problem]
        found = check_trace(traces[end], profile=profile, problems=asked, known=_KNOWN)
        own = [one for one in found if one.endpoint.address == addresses[end]]
        failed = [one for one in own if one.answer is Answer.FAIL]
        passed = [one for one in own if one.answer is Answer.PASS]
        return (failed or passed or own)[0]

    return Trial(
        finding(SUBJECT, "modern"), finding(PEER, "modern"), finding(SUBJECT, "rfc2525"), scale
    )


def stretched(path: Path, factor: int) -> Trace:
    """The trace of a capture whose times count from its first packet, so many times as long; it
    is kept beside the capture."""
    if factor == 1:
        return read_trace(path)
    capture = CaptureFile(path)
    longer = path.with_suffix(f".times-{factor}.pcap")
    with longer.open("wb") as file:
        begins: int | None = None
        for time, link_type, start, end, length, *_ in capture.frames():
            if begins is None:
                begins = time
                file.write(pcap_header(link_type))
            late = begins + (time - begins) * factor
            file.write(pcap_record(late, capture.data[start:end], length))
    return read_trace(longer)
