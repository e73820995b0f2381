"""Runs some cells of every scenario in this process: `every_scenario.py FOLDER SEED CELLS`."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from testbed.scenarios import registry
from testbed.scenarios.runner import carry_out, prepare


def names() -> list[str]:
    """Those that need nothing of this machine's own kernel."""
    found = registry.scenarios()
    return sorted(name for name in found if not registry.machine_needs(*registry.find(name)))


def main() -> None:
    folder, seed, cells = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for name in names():
        series = prepare(*registry.find(name), parameters={}, repeat=1)
        where = folder / name
        where.mkdir()
        runs, environment = carry_out(series, series.jobs[:cells], seed, where)
        told = msgspec.json.encode({"runs": runs, "environment": environment})
        (where / "result.json").write_bytes(told)


if __name__ == "__main__":
    main()
