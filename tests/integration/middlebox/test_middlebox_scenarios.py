"""The scenarios of the middleboxes, with matrices cut down to what tells the fault from health."""

from __future__ import annotations

from pathlib import Path

import pytest
from middlebox_path import needs_a_lab

from testbed.scenarios.registry import find
from testbed.scenarios.runner import run

pytestmark = needs_a_lab

REDUCED: dict[str, dict[str, str]] = {
    "ack-thinning": {"keep": "all,1/4"},
    "ecn": {
        "box": "none,clears IP bits,clears TCP flags,drops ECN SYNs",
        "fallback": "1",
    },
    "flow-disorder": {"sack": "1"},
    "fragments": {},
    "option-stripping": {"strip": "nothing,window-scale,sack,mss"},
    "pep": {"loss": "none"},
    "pmtu-black-hole": {"patience": "3.5"},
    "reset-injection": {},
    "sack-untranslated": {},
    "syn-flood": {"clients": "6"},
    "window-scale-mangled": {"mangled": "neither,syn", "transfer_way": "download", "size": "4000"},
}


@pytest.mark.parametrize("name", REDUCED)
def test_the_matrix_comes_out(name: str, tmp_path: Path) -> None:
    scenario, topology = find(name)
    result = run(scenario, topology, parameters=REDUCED[name], out=tmp_path / "results").result
    assert result.passed, [
        (cell.parameters, cell.medians, cell.verdict, cell.expected)
        for cell in result.cells
        if not cell.as_expected
    ]
    assert len({cell.verdict for cell in result.cells}) > 1  # a matrix of one verdict tells nothing
