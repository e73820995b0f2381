"""The splitting accelerator."""

from testbed.middlebox.functions.pep import function as function
