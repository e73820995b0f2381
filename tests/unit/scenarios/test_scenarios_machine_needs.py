"""What needs this machine's own kernel is refused in any other, before anything is booted."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import Lab
from testbed.errors import LabError, ScenarioError
from testbed.kernel.uml import boot
from testbed.scenarios.elsewhere import Execution, run_elsewhere
from testbed.topology import kinds
from testbed.topology.kinds.host import Host

ANOTHER_KERNEL = Execution(clock="virtual", kernels={"6.12": "6.12.117-x"}, seed=1, jobs=1)


@pytest.fixture
def _hosts_need_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds.names()
    monkeypatch.setattr(Host, "machine_needs", "the docker engine")


@pytest.mark.usefixtures("_hosts_need_an_engine")
def test_a_scenario_is_refused_with_the_node_and_its_need(tmp_path: Path):
    with pytest.raises(ScenarioError, match="the host 'gateway' needs the docker engine of this"):
        run_elsewhere("docomo", ANOTHER_KERNEL, parameters={}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_hosts_need_an_engine")
def test_a_lab_is_refused_inside_another_kernel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(boot.MARK, "uml")
    with (
        pytest.raises(LabError, match="'docomo' cannot be built in this kernel: the host"),
        Lab("docomo"),
    ):
        pass
