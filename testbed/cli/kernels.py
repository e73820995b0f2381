"""The commands about kernels with a virtual clock: kernel build, kernel list, kernel remove."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import JsonOption, example, print_json, stdout_console

if TYPE_CHECKING:
    from testbed.kernel.uml.build import Progress
    from testbed.kernel.uml.store import BuiltKernel

_USUAL_VERSION = "6.12"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(no_args_is_help=True, help="Kernels with a virtual clock, built here.")
    group.command("build", epilog=example("testbed kernel build", "testbed kernel build 6.1"))(
        build
    )
    group.command("list", epilog=example("testbed kernel list"))(list_kernels)
    group.command("remove", epilog=example("testbed kernel remove 6.12.117-0123abcd"))(remove)
    app.add_typer(group, name="kernel")


def build(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="Build Debian's linux-source-VERSION."),
    ] = _USUAL_VERSION,
    source: Annotated[
        Path | None,
        typer.Option(metavar="TARBALL|FOLDER", help="Build this Linux (6.1 or later) instead."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Build even if there is such a kernel already.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Run N compilers at a time."),
    ] = None,
) -> None:
    """Build a kernel with a virtual clock into this user's cache; it takes minutes, once."""
    from testbed.kernel.uml import build as builder

    with _progress() as progress:
        kernel = builder.build(version, source=source, again=again, jobs=jobs, progress=progress)
    console = stdout_console()
    console.print(f"{kernel.name} is in {kernel.folder}", soft_wrap=True)
    console.print(
        f"Use it: testbed --clock virtual --kernel {kernel.version} run docomo", soft_wrap=True
    )


def list_kernels(json: JsonOption = False) -> None:
    """List the kernels that this user has built, the one that is taken by default first."""
    from rich.table import Table

    from testbed.kernel.uml.store import built_kernels

    known = built_kernels()
    if json:
        print_json([{"name": one.name, "folder": str(one.folder), **_told(one)} for one in known])
        return
    if not known:
        stdout_console().print("None yet: testbed kernel build")
        return
    table = Table("kernel", "Linux", "made for this testbed", "compiler", "folder")
    for one in known:
        state = "yes" if one.current else "no: build it again"
        table.add_row(one.name, one.version, state, one.about.compiler, str(one.folder))
    stdout_console().print(table)


def _told(kernel: BuiltKernel) -> dict[str, str | float | bool]:
    about = kernel.about
    return {
        "version": about.version,
        "current": kernel.current,
        "compiler": about.compiler,
        "seconds": about.seconds,
    }


def remove(
    names: Annotated[list[str], typer.Argument(metavar="KERNEL...", help="As listed.")],
) -> None:
    """Remove kernels that this user has built."""
    from testbed.kernel.uml.store import remove_kernel

    for name in names:
        stdout_console().print(f"removed {remove_kernel(name).folder}", soft_wrap=True)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Stages, steps and the time left on standard error: as a bar, or now and then a line."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        told = ""

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal told
            bar.update(task, description=stage, completed=done, total=total or None)
            line = f"{stage} {10 * (10 * done // total)}%" if total else stage
            if line != told and not console.is_terminal:
                console.print(line)
            told = line

        yield progress
