"""A running topology: nodes, links and captures."""

from testbed.lab.capture import Capture
from testbed.lab.lab import Lab
from testbed.lab.link import LabLink
from testbed.lab.node import Completed, LabNode

__all__ = ["Capture", "Completed", "Lab", "LabLink", "LabNode"]
