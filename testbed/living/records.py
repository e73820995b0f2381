"""Which labs this user has: one record for each, in the user's runtime directory.

The holder of a lab keeps the lock of its record as long as it lives. A record without a lock is
what a holder has left that was killed: nothing of its lab is there any more, and whoever finds
it removes it. Source: flock(2); the XDG Base Directory Specification.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import IO, Final

import msgspec

from testbed.errors import InvalidValue, LabError
from testbed.kernel.files import claim, is_claimed
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.topology.names import matches, parse_name
from testbed.wording import join

LAB_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
#: Bytes of a socket's path (sun_path in unix(7)), without the final NUL.
_LONGEST_PATH = 107
_NEWBORN_SECONDS = 1.0
_POLL_SECONDS = 0.01


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a lab without asking it.

    pid: its holder's; source: the topology as the user named it; began: seconds since 1970.
    """

    name: str
    pid: int
    source: str
    began: float

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return _path(self.name, "sock")

    @property
    def log(self) -> Path:
        """What its holder has said."""
        return _path(self.name, "log")


class Claimed:
    """The name of a lab, and the files that go with it, for this process alone."""

    def __init__(self, record: LabRecord, file: IO[bytes]) -> None:
        self.record = record
        self._file = file

    def give_up(self) -> None:
        """Remove all files of the lab; what nobody else may do while this process lives."""
        for path in (self.record.socket, self.record.log, _path(self.record.name, "json")):
            path.unlink(missing_ok=True)
        self._file.close()


def runtime_folder() -> Path:
    """The folder of records, which only this user can look into; made where it is not there.

    Raises `LabError` where it is somebody else's or open to others.
    """
    user = os.getuid()
    given = os.environ.get("XDG_RUNTIME_DIR")
    for place in (Path(given) if given else None, Path(f"/run/user/{user}")):
        if place is not None and place.is_absolute() and _is_own(place):
            folder = place / "testbed"
            break
    else:
        folder = Path(f"/tmp/testbed-{user}")
    with contextlib.suppress(FileExistsError):  # be it a folder or not
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
        raise LabError(
            f"The folder {folder} for records of labs must be this user's alone, and it is not "
            "(`ls -ld` shows it). Remove it, or set XDG_RUNTIME_DIR to a folder of your own."
        )
    return folder


def _is_own(folder: Path) -> bool:
    return folder.is_dir() and folder.stat().st_uid == os.getuid()


def _path(name: str, suffix: str) -> Path:
    return runtime_folder() / f"{name}.{suffix}"


def parse_lab_name(text: str) -> str:
    """A name such as `docomo-2`. Raises `InvalidValue`."""
    return parse_name(text, LAB_NAME, "a name of letters, digits, `_` and `-`")


def claim_name(name: str, source: str) -> Claimed:
    """Record a lab of this process's. Raises `LabError` where one of that name is running."""
    try:
        parse_lab_name(name)
    except InvalidValue as error:
        raise LabError(f"A lab cannot be called so: {error}.") from None
    path = _path(name, "json")
    record = LabRecord(name=name, pid=os.getpid(), source=source, began=time.time())
    if len(os.fsencode(record.socket)) > _LONGEST_PATH:
        raise LabError(
            f"The path {record.socket} is too long for a socket. Give the lab a shorter name, or "
            "set XDG_RUNTIME_DIR to a folder with a shorter one."
        )
    deadline = deadline_in(_NEWBORN_SECONDS)
    while time_left(deadline):
        _sweep(path)
        with contextlib.suppress(FileExistsError):
            file = path.open("xb", buffering=0)
            if claim(file.fileno()) and _is_at(file, path):
                file.write(msgspec.json.encode(record))
                return Claimed(record, file)
            file.close()
        if (found := _read(path)) is not None:
            raise LabError(
                f"A lab '{name}' is running already: of {found.source}, held by process "
                f"{found.pid}. `testbed down {name}` ends it; `testbed up {source} --name OTHER` "
                "starts one beside it."
            )
        time.sleep(_POLL_SECONDS)  # another one is just being recorded
    raise LabError(f"The lab '{name}' could not be recorded in {path.parent}. Try again.")


def running_labs() -> dict[str, LabRecord]:
    """The labs of this user whose holders live, by name; what dead ones left is removed."""
    paths = sorted(runtime_folder().glob("*.json"))
    found = (_read(path) for path in paths if not _sweep(path))
    return {record.name: record for record in found if record is not None}


def find_lab(name: str) -> LabRecord:
    """The record of a running lab. Raises `LabError` that tells which there are."""
    dead = _read(_path(name, "json")) if matches(LAB_NAME, name) else None
    labs = running_labs()
    if name in labs:
        return labs[name]
    if dead is not None:
        raise LabError(
            f"The holder of the lab '{name}' (process {dead.pid}) was killed, and nothing of the "
            f"lab is left. Start it again: testbed up {dead.source}"
        )
    known = f"There are {join(labs, 'and')}" if len(labs) > 1 else f"There is {join(labs)}"
    raise LabError(
        f"There is no lab '{name}'. {known if labs else 'None is running'}; `testbed up FILE` "
        "starts one."
    )


def _read(path: Path) -> LabRecord | None:
    """What a record says; None where there is none, or none yet."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _sweep(path: Path) -> bool:
    """Whether this was a record without a holder; it is removed then, with what belongs to it."""
    try:
        with path.open("rb+") as file:
            if is_claimed(file.fileno()) or not claim(file.fileno()) or not _is_at(file, path):
                return False
            for suffix in ("sock", "log", "json"):
                path.with_suffix(f".{suffix}").unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the path still leads to this very file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
