"""Whether what a trace shows of a TCP is what the RFCs ask for: the problems of RFC 2525."""

from testbed.conformance.finding import Answer, Finding
from testbed.conformance.judging import check_trace
from testbed.conformance.party import Circumstances
from testbed.conformance.profile import MODERN, PROFILES, RFC2525, Profile
from testbed.conformance.registry import Check, all_checks, check, find

__all__ = [
    "MODERN",
    "PROFILES",
    "RFC2525",
    "Answer",
    "Check",
    "Circumstances",
    "Finding",
    "Profile",
    "check",
    "check_trace",
    "all_checks",
    "find",
]
