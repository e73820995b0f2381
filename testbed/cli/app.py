"""The commands of `testbed`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed import __version__
from testbed.cli import (
    checking,
    conformance,
    importing,
    kernels,
    labs,
    machine,
    scenarios,
    scripts,
    topologies,
    traces,
    verbs,
)
from testbed.cli.kernel import ClockOption, KernelChoice, KernelOption, SeedOption, rerun

app = typer.Typer(
    help="Small networks of real Linux TCP, lossy links and misbehaving middleboxes, with the "
    "packets to show for it.",
    epilog="[dim]Begin with:[/dim] testbed doctor",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"testbed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    kernel: KernelOption = None,
    clock: ClockOption = None,
    seed: SeedOption = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options that come before the command."""
    context.obj = KernelChoice(kernel, clock, seed)
    status = rerun(context.obj, context.invoked_subcommand)
    if status is not None:
        raise typer.Exit(status)


for module in (
    scenarios, conformance, scripts, labs, verbs, checking, topologies, importing, traces,
    kernels, machine,
):  # fmt: skip
    module.register(app)


@app.command("version")
def _version() -> None:
    """Print the version."""
    _print_version(True)
