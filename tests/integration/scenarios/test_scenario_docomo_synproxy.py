"""The scenario of the kernel's SYNPROXY, once over its whole matrix."""

from __future__ import annotations

import pytest

from testbed.kernel.userns import needed
from testbed.scenarios import registry, runner

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")


def test_the_kernels_synproxy_leaves_no_room_for_data_on_the_handshake(tmp_path):
    scenario, topology = registry.find("docomo-synproxy")
    result = runner.run(
        scenario, topology, parameters={}, repeat=1, out=tmp_path / "results"
    ).result
    assert result.passed, [(one.parameters, one.verdict, one.measurements) for one in result.runs]
    took = {
        (cell.parameters["synproxy"], cell.parameters["handshake"]): run.measurements[
            "request_to_response_ms"
        ]
        for cell in result.cells
        for run in result.runs_of(**cell.parameters)
    }
    assert took["on", "data"] > 2 * took["on", "bare"] > 2 * took["off", "data"]
