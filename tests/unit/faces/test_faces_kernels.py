"""`testbed kernel list` as its user reads it."""

from __future__ import annotations

from typer.testing import CliRunner

from testbed.cli.app import app


def test_no_kernel_yet_is_said_with_the_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["kernel", "list"])
    assert shown.stdout == "None yet: testbed kernel build\n"
