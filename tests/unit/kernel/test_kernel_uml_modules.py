from __future__ import annotations

from pathlib import Path

from testbed.kernel.uml.boot import Ending
from testbed.kernel.uml.kernels import modules_in_order


def test_dependencies_come_first_and_once(tmp_path: Path):
    (tmp_path / "modules.dep").write_text(
        "net/llc.ko:\n"
        "net/stp.ko: net/llc.ko\n"
        "net/bridge.ko: net/stp.ko net/llc.ko\n"
        "net/act-mirred.ko:\n"
    )
    ordered = modules_in_order(tmp_path, ["bridge", "act_mirred", "built_in", "stp"])
    assert [path.relative_to(tmp_path).as_posix() for path in ordered] == [
        "net/llc.ko",
        "net/stp.ko",
        "net/bridge.ko",
        "net/act-mirred.ko",
    ]


def test_an_ending_is_put_together_from_messages():
    ending = Ending()
    ending.hear("something else")
    assert (ending.ready, ending.status) == (False, None)
    ending.hear("ready")
    ending.hear("status 3")
    assert (ending.ready, ending.status) == (True, 3)
