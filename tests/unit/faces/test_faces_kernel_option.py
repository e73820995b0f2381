from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from testbed.cli import main
from testbed.cli.app import app
from testbed.cli.kernel import KernelChoice, files_named, without_options
from testbed.errors import KernelError
from testbed.kernel.uml import boot, store
from testbed.kernel.uml.recipe import recipe_digest
from testbed.kernel.uml.store import About, BuiltKernel


@pytest.mark.parametrize(
    "words",
    [
        ["--kernel", "uml", "run", "docomo", "-p", "path=near"],
        ["--kernel=uml", "run", "docomo", "-p", "path=near"],
        ["--clock", "virtual", "--kernel=6.12", "--seed", "3", "run", "docomo", "-p", "path=near"],
        ["run", "docomo", "-p", "path=near"],
    ],
)
def test_the_command_goes_on_without_the_choice_of_a_kernel(words):
    assert without_options(words) == ["run", "docomo", "-p", "path=near"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "docomo"], []),
        (["run", "docomo", "--out", "here"], ["here"]),
        (["run", "docomo", "--out=here", "--json"], ["here"]),
        (["ladder", "a.pcap", "--svg", "x/l.svg"], ["x/l.svg"]),
        (["schema", "-o", "s.json"], ["s.json"]),
        (["run", "--out"], []),
    ],
)
def test_what_is_to_be_written_is_found_in_the_command_line(words, named):
    assert files_named(words) == [Path(name) for name in named]


@pytest.mark.parametrize("kernel", ["host", "uml"])
def test_a_kernel_whose_clock_is_real_has_no_virtual_one(kernel, monkeypatch):
    monkeypatch.setattr(boot, "inside", lambda: False)
    with pytest.raises(KernelError, match=f"Leave out `--kernel {kernel}`"):
        KernelChoice(kernel, "virtual").kernels()


CURRENT, OLDER = "6.12.117", "6.1.158"


@pytest.mark.parametrize(
    ("choice", "needs", "versions", "clock"),
    [
        (KernelChoice(), "", [], "virtual"),
        (KernelChoice(seed=3), "", [], "virtual"),
        (KernelChoice("6.12"), "", [], "virtual"),
        (KernelChoice(clock="real"), "", [], "real"),
        (KernelChoice("host"), "", [], "real"),
        (KernelChoice("uml"), "", [], "real"),
        (KernelChoice(), "the host 'a' needs an engine", [], "real"),
        (KernelChoice("6.1"), "", [], "real"),
        (KernelChoice(), "", ["6.12", "6.1"], "real"),
        (KernelChoice(clock="virtual"), "", ["6.12", "6.1"], "virtual"),
    ],
)
def test_runs_are_virtual_where_a_current_kernel_is_there(
    choice: KernelChoice, needs: str, versions: list[str], clock: str, monkeypatch
):
    def kernel(version: str, recipe: str) -> BuiltKernel:
        about = About(version=version, recipe=recipe, compiler="", seconds=0.0)
        return BuiltKernel(Path(about.name), about)

    kernels = (kernel(CURRENT, recipe_digest()), kernel(OLDER, "0123456789ab"))
    monkeypatch.setattr(store, "built_kernels", lambda: kernels)
    monkeypatch.setattr(boot, "inside", lambda: False)
    chosen = choice.preferring_virtual(needs, versions)
    assert (chosen.clock_name, chosen.seed) == (clock, choice.seed)
    monkeypatch.setattr(store, "built_kernels", lambda: kernels[1:])
    assert choice.preferring_virtual(needs, versions) == choice
    monkeypatch.setattr(boot, "inside", lambda: True)
    assert choice.preferring_virtual(needs, versions) == choice


def test_a_clock_that_does_not_exist_is_told_in_plain_words():
    done = CliRunner().invoke(app, ["run", "docomo", "--clock=sand"])
    assert done.exit_code == 2
    assert "'sand' is neither real nor virtual." in " ".join(done.output.split()).replace("│ ", "")


@pytest.mark.parametrize("command", [[], ["run"], ["kernel", "build"]])
def test_the_help_shows_no_type_of_an_option_without_value(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["testbed", *command, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "bool" not in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["nope", "script.py"])
def test_a_script_can_only_write_to_a_folder_that_is_there(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("")
    done = CliRunner().invoke(app, ["exec", "--clock=virtual", "--write", folder, "script.py"])
    assert done.exit_code == 2
    assert not (tmp_path / "nope").exists()
