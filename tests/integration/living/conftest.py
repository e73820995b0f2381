"""Labs that live on, in a runtime directory of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.errors import TestbedError
from testbed.living.client import LabClient, node_path


class LivingLabs:
    """Runs `testbed` where no other lab is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}

    def run(self, *words: str, status: int = 0) -> str:
        """What a command says: its output, or its error where it fails as it should."""
        result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        if isinstance(result.exception, TestbedError):
            assert status == 1, result.exception
            return str(result.exception)
        assert result.exit_code == status, result.output
        return result.output

    def run_in(self, lab: str, node: str, *argv: str) -> Any:
        """The status and the streams of a program in a node, by the API."""
        return LabClient.of(lab).ask("POST", node_path(node, "run"), {"argv": argv})

    def start(self, *words: str, program: str = "", **options: Any) -> subprocess.Popen[str]:
        """The command, or a Python program, in a process of its own, with pipes for its streams."""
        python = ["-c", program] if program else ["-m", "testbed", *words]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [sys.executable, *python],
            **{"env": self.environment, "text": True, **pipes, **options},
        )


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingLabs]:
    labs = LivingLabs(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(labs.folder))
        yield labs
        labs.run("down", "--all")
        assert list((labs.folder / "testbed").iterdir()) == []
