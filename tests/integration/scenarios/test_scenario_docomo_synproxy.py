"""The scenario of the kernel's SYNPROXY, once over its whole matrix."""

from __future__ import annotations

import pytest

from testbed.kernel.processes.userns import needed
from testbed.scenarios import registry, runner
from testbed.topology.vary import with_link

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")


def test_the_kernels_synproxy_leaves_no_room_for_data_on_the_handshake(tmp_path):
    """With round trips of 100 ms, so that one more can be told from a stall of the machine."""
    scenario, topology = registry.find("docomo-synproxy")
    result = runner.run(
        scenario,
        with_link(topology, "gateway", "router", delay=0.05),
        parameters={},
        repeat=1,
        out=tmp_path / "results",
    ).result
    assert result.passed, [(one.parameters, one.verdict, one.measurements) for one in result.runs]
    took = {
        (cell.parameters["synproxy"], cell.parameters["handshake"]): cell.medians[
            "request_to_response_ms"
        ]
        for cell in result.cells
    }
    assert took["on", "data"] > 150 + took["on", "bare"]
    assert took["on", "bare"] > 1.5 * took["off", "data"]
