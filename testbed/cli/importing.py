"""Commands that make topologies of other tools' files: import containerlab, import compose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import example, print_note, write_file

if TYPE_CHECKING:
    from testbed.topology.importing.foreign import Imported

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Write the topology to a file, in whose folder the names of files in it start.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        help="Make a topology of the file of another tool, and tell what it leaves out.",
        no_args_is_help=True,
    )
    group.command(
        "containerlab", epilog=example("testbed import containerlab examples/import/ring.clab.yml")
    )(containerlab)
    group.command(
        "compose",
        epilog=example("testbed import compose examples/import/compose.yaml -o shop.yaml"),
    )(compose)
    app.add_typer(group, name="import")


def containerlab(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file such as lab.clab.yml.")],
    out: OutOption = None,
) -> None:
    """Print the topology that a containerlab file means: Linux containers, bridges, links.

    What a topology does not have is told on standard error, by line, with the reason.
    """
    from testbed.topology.importing.containerlab import containerlab

    _import(file, out, containerlab)


def compose(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file such as compose.yaml.")],
    out: OutOption = None,
) -> None:
    """Print the topology that a Compose file means: services as containers, networks as switches.

    What a topology does not have is told on standard error, by line, with the reason.
    """
    from testbed.topology.importing.compose import compose

    _import(file, out, compose)


def _import(file: Path, out: Path | None, read: Callable[[str, str, Path, Path], Imported]) -> None:
    from testbed.loading import loads
    from testbed.topology.yaml.document import read_text

    beside = Path() if out is None else out.parent
    found = read(read_text(file), str(file), file.parent, beside)
    for line in found.left_out:
        print_note(line)
    loads(found.text, source=str(beside / f"{file.name}, imported"))
    if out is None:
        typer.echo(found.text, nl=False)
    else:
        write_file(out, found.text)
