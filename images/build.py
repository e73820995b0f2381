"""Builds all images of this folder, with their base made of Debian packages where none is had.

python images/build.py [NAME ...]
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from testbed.containers.engine import ContainerEngine
from testbed.containers.images import ImageWanted, obtain
from testbed.errors import EngineError, TestbedError
from testbed.kernel.processes.process import find_program

HERE = Path(__file__).resolve().parent


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def base_of(folder: Path) -> str:
    """The image that a Dockerfile begins with."""
    found = re.search(r"(?m)^FROM (\S+)", (folder / "Dockerfile").read_text())
    if found is None:
        raise EngineError(f"{folder}/Dockerfile has no line FROM.")
    return found[1]


def provide(engine: ContainerEngine, base: str) -> None:
    """Have the engine get a base from its registry, or make it: `debian:SUITE-slim`."""
    if engine.image(base) is not None:
        return
    try:
        obtain(engine, ImageWanted(base, None, True))
        say(f"{base}: pulled")
        return
    except EngineError as error:
        suite = re.fullmatch(r"debian:(\w+)-slim", base)
        if suite is None:
            raise
        say(f"{base}: cannot be pulled ({error}); made of Debian's packages")
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder, "base.tar"))
        command = [find_program("mmdebstrap", "mmdebstrap"), "--variant=minbase", "--quiet"]
        if subprocess.run([*command, suite[1], archive], check=False).returncode != 0:
            raise EngineError(f"mmdebstrap could not make {base}; see above.")
        name, _, tag = base.rpartition(":")
        with engine.blame(f"import of {base}"):
            engine.api.import_image_from_file(archive, repository=name, tag=tag)


def main() -> None:
    folders = [HERE / name for name in sys.argv[1:]] or sorted(
        path.parent for path in HERE.glob("*/Dockerfile")
    )
    with contextlib.closing(ContainerEngine()) as engine:
        for folder in folders:
            provide(engine, base_of(folder))
            began = time.monotonic()
            name = obtain(engine, ImageWanted(None, str(folder), False))
            say(f"{name}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    try:
        main()
    except TestbedError as error:
        sys.exit(str(error))
