from __future__ import annotations

from typing import Any

import pytest

from testbed.emulator.netem import description as netem
from testbed.emulator.netem.middle import HopsInForce, Path
from testbed.errors import KernelError
from testbed.kernel.netlink.socket import Request
from testbed.topology.model import Impairments

PATH = Path(entry=1, chance=2, queue=3, way=4)


class Kernel:
    """Stands for a netlink socket; refuses what `refused` says, once."""

    def __init__(self, refused: str | None = None) -> None:
        self.refused = refused
        self.done: list[bytes] = []

    def execute(self, requests: list[Request]) -> None:
        for item in requests:
            if self.refused is not None and self.refused in item.purpose:
                self.refused = None
                raise KernelError("no")
            self.done.append(item.data)


def fake_kernel(refused: str | None = None) -> Any:
    return Kernel(refused)


def hops(**given) -> netem.Hops:
    return netem.hops(Impairments(**given), 0.0, 1500)


def test_only_what_differs_is_touched():
    in_force = HopsInForce(PATH, hops(loss=0.1, delay=0.1))
    assert len(in_force.requests()) == 4
    kernel = fake_kernel()
    in_force.change(kernel, hops(loss=0.1, delay=0.2))
    assert len(kernel.done) == 1
    in_force.change(kernel, hops(loss=0.1, delay=0.2))
    assert len(kernel.done) == 1


def test_a_refused_change_leaves_all_as_it_was():
    before = hops(loss=0.1)
    in_force = HopsInForce(PATH, before)
    kernel = fake_kernel(refused="tbf")
    with pytest.raises(KernelError):
        in_force.change(kernel, hops(loss=0.2, rate=1e6))
    assert in_force.hops == before
    assert kernel.done[-4:] == [item.data for item in in_force.requests()]
