"""Situations in which a TCP shows whether it has a problem of RFC 2525.

A situation drives the two ends of a lab, the subject and its peer; what they do is captured, and
the check of the problem judges it. The ends have Linux's TCP or the testbed's own.
"""

from testbed.conformance.situations.registry import Situation, situation, situations
from testbed.conformance.situations.stage import PEER, SUBJECT, Stage
from testbed.conformance.situations.trial import Subject, carry_out, topology_for

__all__ = [
    "PEER",
    "SUBJECT",
    "Situation",
    "Stage",
    "Subject",
    "carry_out",
    "situation",
    "situations",
    "topology_for",
]
