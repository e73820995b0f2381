"""Every question to both endpoints of every connection of a trace."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.conformance.finding import Finding
from testbed.conformance.party import Circumstances, parties_of
from testbed.conformance.profile import MODERN, Profile, profile_of
from testbed.conformance.registry import all_checks, find
from testbed.trace import Trace

NOTHING_KNOWN = Circumstances()


def check_trace(
    trace: Trace,
    *,
    profile: Profile | str = MODERN,
    problems: Sequence[str] = (),
    known: Circumstances = NOTHING_KNOWN,
) -> list[Finding]:
    """What the checks say of each endpoint of each connection.

    problems: names of checks; none: all. known: what the trace itself does not show, without which
    some checks answer `inconclusive` only. Raises ConformanceError for a name that is none.
    """
    held_to = profile if isinstance(profile, Profile) else profile_of(profile)
    asked = [find(name) for name in problems] or list(all_checks().values())
    findings = []
    for connection in trace.connections:
        for party in parties_of(trace, connection, held_to, known):
            for one in asked:
                ruling = one.ask(party)
                findings.append(
                    Finding(
                        problem=one.problem,
                        section=one.section,
                        connection=connection.number,
                        endpoint=party.endpoint,
                        answer=ruling.answer,
                        sentence=ruling.sentence,
                        segments=tuple(segment.number for segment in ruling.segments),
                    )
                )
    return findings
