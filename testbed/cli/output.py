"""How the commands speak: tables on standard output, or JSON; errors on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import TestbedError

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")
]

_PIPE_WIDTH = 160
_SHOWN_FROM = 64 << 20  # bytes of a file of which reading takes a while


def example(*commands: str) -> str:
    """The text that ends a command's help."""
    label = "Example" if len(commands) == 1 else "Examples"
    return f"[dim]{label}:[/dim] " + "  |  ".join(
        command.replace("[", r"\[") for command in commands
    )


def stdout_console() -> Console:
    """The console for results: coloured only on a terminal, and wide where there is none."""
    from rich.console import Console

    # Text that the terminal's encoding does not have must not become a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def only_ascii(console: Console) -> bool:
    """Whether lines and arrows beyond ASCII may not be shown there."""
    return not console.encoding.startswith("utf")


@contextmanager
def reading_progress() -> Iterator[Callable[[int, int], object] | None]:
    """Shows how far a large file is read, on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks: list[TaskID] = []

        def show(done: int, total: int) -> None:
            if total >= _SHOWN_FROM:
                if not tasks:
                    tasks.append(bar.add_task("Reading", total=total))
                bar.update(tasks[0], completed=done)

        yield show


def print_json(data: Any) -> None:
    """Print data (msgspec structs included) as indented JSON."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(data, order="deterministic"), indent=2)
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def print_error(error: TestbedError) -> None:
    """Print an error's message on standard error, wrapped by nobody but the terminal."""
    sys.stderr.write(f"testbed: {printable(str(error))}\n")


def print_note(text: str) -> None:
    """Print a remark on standard error that is no error."""
    sys.stderr.write(f"testbed: {printable(text)}\n")


def printable(text: str) -> str:
    """The text with whatever a terminal would act upon made visible; lines are kept."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text
    )


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write a result to a file that the user named. Raises `TestbedError` where it cannot."""
    from pathlib import Path

    try:
        Path(path).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TestbedError(
            f"The file {os.fspath(path)} cannot be written: {reason}. Name another one."
        ) from None
