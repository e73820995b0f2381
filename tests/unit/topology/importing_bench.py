"""Files of other tools read in a folder of the test's, and the topologies they become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.errors import TopologyError
from testbed.topology.importing.foreign import Imported
from testbed.topology.model import Topology
from testbed.topology.yaml.load import loads

Reader = Callable[[str, str, Path, Path], Imported]


class Made(NamedTuple):
    """A topology that the loader takes, and what was left out, without the file's name."""

    topology: Topology
    left_out: list[str]
    text: str


class Bench:
    """Reads texts as if they stood in `folder`, for a topology in the same folder."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.folder = folder
        self._reader = reader

    def read(self, text: str) -> Imported:
        return self._reader(text, "f", self.folder, self.folder)

    def __call__(self, text: str) -> Made:
        found = self.read(text)
        topology = loads(found.text, source=str(self.folder / "made.yaml"))
        assert all(line.startswith("f:") for line in found.left_out)
        return Made(topology, [line[2:] for line in found.left_out], found.text)

    def refused(self, text: str) -> list[str]:
        with pytest.raises(TopologyError) as caught:
            self.read(text)
        return [problem.removeprefix("f:") for problem in caught.value.problems]
