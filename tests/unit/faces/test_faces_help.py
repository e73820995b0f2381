"""How help is asked for."""

from __future__ import annotations

import sys

import pytest

from testbed.cli import main


@pytest.mark.parametrize("command", ["", "run", "set", "kernel", "kernel list"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_by_both_names(
    command: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["testbed", *command.split(), option])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "-h" in capsys.readouterr().out
