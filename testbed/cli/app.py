"""The commands of `testbed`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed import __version__
from testbed.cli import kernels, machine, scenarios, topologies, traces
from testbed.cli.kernel import Kernel, rerun

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
    kernel: Annotated[
        Kernel,
        typer.Option(
            help="Run the command on this machine's kernel, or inside User-Mode Linux: without "
            "root, and with all of the kernel's queue disciplines and congestion controls."
        ),
    ] = Kernel.HOST,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options that come before the command."""
    status = rerun(kernel, context.invoked_subcommand)
    if status is not None:
        raise typer.Exit(status)


for module in (scenarios, topologies, traces, kernels, machine):
    module.register(app)


@app.command("version")
def _version() -> None:
    """Print the version."""
    _print_version(True)
