"""The bytes of a capture file: a regular file, a stream, either compressed, or a log as text."""

from __future__ import annotations

import gzip
import importlib
import io
import mmap
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal, TypeAlias

from testbed.errors import TraceError
from testbed.trace.text.reading import is_log
from testbed.trace.text.transcript import LARGEST_LOG, Transcript, transcribe

ByteOrder: TypeAlias = Literal["<", ">"]
Buffer = bytes | mmap.mmap
"""The content of a file; a slice of it is `bytes`."""

_MAPPED_FROM = 64 << 20
_LARGEST_CONTENT = 16 << 30
_CHUNK = 64 << 10
PCAP_MAGIC: Final[Mapping[bytes, tuple[ByteOrder, int]]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""How pcap files begin, with their byte order and the unit of their time stamps in ns."""
SECTION_HEADER: Final = b"\x0a\x0d\x0d\x0a"
"""How pcapng files begin, and each section in them."""
_LOG_HEAD = 8 << 10  # bytes in which a log must have its first packet


class Source:
    """What was read.

    path: the file, `-` for a stream.
    data: its content, decompressed; of a text log a capture.
    damage: why decompression ended early, empty where it did not.
    transcript: what is to be known of a text log; None for a capture.
    """

    def __init__(
        self, path: Path, data: Buffer, damage: str = "", transcript: Transcript | None = None
    ) -> None:
        self.path = path
        self.data = data
        self.damage = damage
        self.transcript = transcript


def read_source(source: str | os.PathLike[str] | BinaryIO) -> Source:
    """Read a file, or a stream to its end. Raises TraceError where it cannot be read."""
    if not isinstance(source, (str, os.PathLike)):
        path = Path("-")
        data = _spooled(path, iter(lambda: source.read(_CHUNK), b""))
        # A mapping reads and seeks like a file.
        file: Any = io.BytesIO(data) if isinstance(data, bytes) else data
        return _transcribed(_decompressed(path, file, data))
    path = Path(source)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise TraceError(
                f"{path}: expected a regular file. Save the capture to a file, or give it on "
                "standard input (`testbed trace -`)."
            )
        with path.open("rb", buffering=0) as file:
            data = _read_all(file)
            return _transcribed(_decompressed(path, file, data))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError(f"{path}: cannot be read: {reason}.") from error


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Whether a file seems to be a capture, compressed or not, or a text log of packets."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        with Path(path).open("rb") as file:
            head = file.read(_LOG_HEAD)
    except (OSError, ValueError):
        return False
    return (
        head[:4] == SECTION_HEADER
        or head[:4] in PCAP_MAGIC
        or head[:4] in _OPENERS
        or head[:2] in _OPENERS
        or _is_log(head)
    )


def _is_log(head: bytes) -> bool:
    return b"\0" not in head and is_log(head.decode("utf-8", "replace"))


def _spooled(path: Path, chunks: Iterable[bytes]) -> Buffer:
    """The content of a stream; what is large goes to a file without a name, not into memory."""
    with closing(_Content(path)) as content:
        for chunk in chunks:
            content.add(chunk)
        return content.data()


def _read_all(file: io.FileIO) -> Buffer:
    """The content: a copy of a small file, a mapping of a large one.

    Copying a large file costs more than parsing it. But who shortens a file that is mapped kills
    the process that reads it (SIGBUS, mmap(2)), so what is quickly copied is copied.
    """
    size = os.fstat(file.fileno()).st_size
    if size < _MAPPED_FROM or not size:
        return file.readall()
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _transcribed(source: Source) -> Source:
    """A text log as a capture; everything else as it is."""
    head = source.data[:_LOG_HEAD]
    if not _is_log(head):
        return source
    if len(source.data) > LARGEST_LOG:
        raise TraceError(
            f"{source.path}: is a text log of more than {LARGEST_LOG >> 20} MiB. Give a capture "
            "(tcpdump -w), or a part of it."
        )
    text = source.data[:].decode("utf-8", "replace")
    data, transcript = transcribe(text)
    return Source(source.path, data, source.damage, transcript)


# -- compression ---------------------------------------------------------------------------


def _decompressed(path: Path, file: IO[bytes], data: Buffer) -> Source:
    if not data:
        raise TraceError(
            f"{path}: nothing is in it yet. A running capture writes late: `capture.flush()` "
            "completes its file, and so does the end of the lab."
        )
    opener = _OPENERS.get(data[:4]) or _OPENERS.get(data[:2])
    if opener is None:
        return Source(path, data)
    file.seek(0)
    with closing(_Content(path)) as content:
        try:
            for chunk in opener(path, file):
                content.add(chunk)
        except (OSError, EOFError, RuntimeError, zlib.error) as error:  # each library its own
            data = content.data()
            if not data:
                raise TraceError(f"{path}: cannot be decompressed: {error}.") from error
            return Source(path, data, f"it cannot be decompressed further ({error})")
        return Source(path, content.data())


class _Content:
    """Decompressed content: in memory, and from a size on in a file without a name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = io.BytesIO()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        before, self._size = self._size, self._size + len(chunk)
        if self._size > _LARGEST_CONTENT:
            raise TraceError(
                f"{self._path}: holds more than {_LARGEST_CONTENT >> 30} GiB when decompressed. "
                "Decompress it yourself and give the file."
            )
        if before < _MAPPED_FROM <= self._size:
            kept = self._file
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
            assert isinstance(kept, io.BytesIO)
            self._file.write(kept.getvalue())
        self._file.write(chunk)

    def data(self) -> Buffer:
        if isinstance(self._file, io.BytesIO):
            return self._file.getvalue()
        self._file.flush()
        return mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)

    def close(self) -> None:
        self._file.close()


def _gzip(_: Path, file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as stream:
        while chunk := stream.read1(_CHUNK):
            yield chunk


def _zstandard(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    library = _library(path, "zstandard", "zst", "zstd")
    with library.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
        try:
            while chunk := stream.read(_CHUNK):
                yield chunk
        except library.ZstdError as error:
            raise OSError(str(error)) from error


def _lz4(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    with _library(path, "lz4.frame", "lz4", "lz4").open(file) as stream:
        while chunk := stream.read1(_CHUNK):
            yield chunk


def _library(path: Path, module: str, suffix: str, program: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise TraceError(
            f"{path}: is compressed ({suffix}). Install what reads it (pip install "
            f"'testbed[compression]'), or: {program} -dc {path} | testbed trace -"
        ) from None


_OPENERS: dict[bytes, Callable[[Path, IO[bytes]], Iterator[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstandard,
    b"\x04\x22\x4d\x18": _lz4,
}
