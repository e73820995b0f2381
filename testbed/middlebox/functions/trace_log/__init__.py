"""The log of a service card."""

from testbed.middlebox.functions.trace_log import function as function
