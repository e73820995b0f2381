"""What some TCPs do wrong (RFC 2525): each problem a small class that overrides one part.

The names are those of the checks in `testbed.conformance`.
"""

from testbed.transport.faults.registry import fault, fault_names, parts_with

__all__ = ["fault", "fault_names", "parts_with"]
