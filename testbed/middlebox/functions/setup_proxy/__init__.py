"""The TCP setup proxy."""

from testbed.middlebox.functions.setup_proxy import function as function
