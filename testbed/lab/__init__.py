"""A running topology and its life."""

from testbed.lab.capture import Capture
from testbed.lab.lab import Lab
from testbed.lab.link import Link
from testbed.lab.node import Completed, Node

__all__ = ["Capture", "Completed", "Lab", "Link", "Node"]
