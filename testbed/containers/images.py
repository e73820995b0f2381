"""Images for containers: found, built from a folder, or pulled when that is asked for."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.containers.engine import ContainerEngine
from testbed.errors import EngineError

_MOST_FILES: Final = 10_000
_MOST_BYTES: Final = 256 << 20
_BUILD_SECONDS: Final = 1800
_LAST_LINES: Final = 15


class ImageWanted(msgspec.Struct, frozen=True):
    """An image by its name, or the folder that it is built from.

    pull: have the engine look for a newer one, of a folder for a newer base.
    """

    name: str | None
    folder: str | None
    pull: bool


def obtain(engine: ContainerEngine, wanted: ImageWanted) -> str:
    """The name of an image that the engine has now.

    Raises `EngineError` where it has not and nobody asked for it to be pulled, or with the last
    of what a build said.
    """
    if wanted.folder is not None:
        return _built(engine, Path(wanted.folder), pull=wanted.pull)
    assert wanted.name is not None
    if wanted.pull:
        name, tag = name_and_tag(wanted.name)
        with engine.blame(f"pull of the image {wanted.name}"):
            engine.api.pull(name, tag=tag)
    elif engine.image(wanted.name) is None:
        raise EngineError(
            f"The container engine has no image {wanted.name}. Build it, or have it pulled: "
            "`pull: true` of the node, or --pull."
        )
    return wanted.name


def name_and_tag(image: str) -> tuple[str, str]:
    """Of `name:tag` or `name@digest`; the tag is `latest` where there is none."""
    name, found, tag = image.rpartition("@" if "@" in image else ":")
    if not found or "/" in tag:  # the colon of a port
        return image, "latest"
    return name, tag


def _built(engine: ContainerEngine, folder: Path, *, pull: bool) -> str:
    tag = f"testbed/{_word(folder.name)}:{content_digest(folder)}"
    if pull or engine.image(tag) is None:
        what = f"build of {folder}"
        with engine.blame(what):
            # Packages are fetched by this machine's own network: there may be no bridge.
            lines = engine.api.build(
                path=str(folder),
                tag=tag,
                rm=True,
                forcerm=True,
                pull=pull,
                decode=True,
                network_mode="host",
                timeout=_BUILD_SECONDS,
                labels={"testbed.image": folder.name},
            )
            _follow(lines, what)
    return tag


def _follow(lines: Iterator[Mapping[str, Any]], what: str) -> None:
    """Read what a build says to its end. Raises `EngineError` when it fails."""
    said: list[str] = []
    for line in lines:
        if "error" in line:
            told = "".join(said[-_LAST_LINES:]).strip()
            raise EngineError(f"{what} failed: {line['error'].strip()}\n{told}")
        said.append(str(line.get("stream", "")))


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "image"


def content_digest(folder: Path) -> str:
    """A digest of all that is in a folder: names, kinds, execute permissions and bytes.

    Raises `EngineError` when that is more than an image is built from.
    """
    digest = hashlib.sha256()
    files = total = 0
    for path in sorted(_tree(folder)):
        status = path.lstat()
        files, total = files + 1, total + status.st_size
        if files > _MOST_FILES or total > _MOST_BYTES:
            raise EngineError(
                f"The folder {folder} has more than {_MOST_FILES} files or "
                f"{_MOST_BYTES >> 20} MiB. Keep in it what the image needs alone."
            )
        kind = stat.S_IFMT(status.st_mode) | status.st_mode & stat.S_IXUSR
        name = os.fsencode(path.relative_to(folder))
        content = _content(path, status.st_mode)
        digest.update(b"%d:%b%o:%d:%b" % (len(name), name, kind, len(content), content))
    return digest.hexdigest()[:16]


def _tree(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        yield from (Path(where, name) for name in (*folders, *names))


def _content(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.fsencode(path.readlink())
    return path.read_bytes() if stat.S_ISREG(mode) else b""
