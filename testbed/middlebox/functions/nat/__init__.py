"""Source NAT."""

from testbed.middlebox.functions.nat import function as function
