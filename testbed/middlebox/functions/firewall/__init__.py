"""The stateful firewall."""

from testbed.middlebox.functions.firewall import function as function
