"""Projects with a topology, for pytest runs of their own."""

from __future__ import annotations

import pytest

# Before runs within this process, which forget what they have imported: numpy is loaded but once.
import testbed.lab
import testbed.pytest_plugin.labs
import testbed.pytest_plugin.reporting  # noqa: F401

# Other plugins that are installed cost every run a second.
ONLY_OURS = ("-p", "testbed.pytest_plugin")
NO_OTHERS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PAIR = """
name: pair
nodes: {client: {}, server: {}}
links:
  - endpoints: [client:eth0, server:eth0]
captures: [client:eth0]
"""


def run_pytest(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_inprocess(*ONLY_OURS, *options)


def kept(project: pytest.Pytester, folder: str = "results/pytest") -> list[str]:
    """The captures that a run has kept."""
    found = (project.path / folder).rglob("*.pcap")
    return sorted(str(path.relative_to(project.path / folder)) for path in found)
