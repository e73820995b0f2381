"""Situations, faults and checks are about the same problems."""

from __future__ import annotations

import struct
from pathlib import Path

from testbed.conformance import all_checks
from testbed.conformance.situations import Subject, situations, topology_for
from testbed.conformance.situations.trial import stretched
from testbed.loading import load
from testbed.topology.planning.plan import plan
from testbed.transport.faults import fault_names
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK

KEY = bytes((10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 0))
SECOND = 1_000_000_000


def written(path: Path, *moments: int) -> Path:
    """A capture of segments at these moments, in ns."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101))  # raw IP
        for number, moment in enumerate(moments):
            data = tcp_segment(KEY, seq=number, flags=ACK, payload=bytes(number))
            file.write(struct.pack("<IIII", *divmod(moment, SECOND), len(data), len(data)) + data)
    return path


def test_each_problem_has_a_check_a_situation_and_a_fault():
    assert set(fault_names()) == set(all_checks()) == set(situations())
    assert len(fault_names()) == 18
    assert all(one.summary.endswith(".") for one in situations().values())


def test_the_topology_of_each_trial_can_be_planned():
    base = load("conformance")
    for situation in situations().values():
        for subject in (Subject("linux"), Subject("testbed-tcp", fault=True)):
            topology = topology_for(base, situation, subject)
            assert len(plan(topology).captures) == 2
            own = topology.nodes["subject"].settings
            assert own.get("fault") == (situation.problem if subject.fault else None)


def test_shortened_times_are_stretched_again(tmp_path: Path):
    begin = 1_700_000_000 * SECOND + 123
    after = stretched(written(tmp_path / "a.pcap", begin, begin + 7, begin + 2 * SECOND), 3600)
    assert [one.time - begin for one in after.segments] == [0, 7 * 3600, 7200 * SECOND]
    assert [(one.seq, one.length) for one in after.segments] == [(0, 0), (1, 1), (2, 2)]
    assert (tmp_path / "a.times-3600.pcap").exists()
