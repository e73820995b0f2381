"""A container engine of the tests' own, in a pid namespace and a folder that end with it."""

from __future__ import annotations

import contextlib
import io
import os
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.containers.engine import ContainerEngine
from testbed.errors import EngineError

BASE = "testbed-tests/base"
_SECONDS = 60.0
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "usr", "var")
_LINKS = ("bin", "lib", "lib64", "sbin")


def obstacle() -> str:
    """Why there can be no engine here; empty where there can."""
    if os.geteuid() != 0:
        return "a container engine needs root"
    if shutil.which("dockerd") is None:
        return "dockerd is not installed: apt-get install docker.io"
    return ""


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def await_end(pid: int) -> None:
    """Return once a process is dead."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        select.select([pidfd], [], [], _SECONDS)
        os.close(pidfd)


class OwnEngine:
    """`dockerd` with all that it starts; `path` is that of its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "docker.sock"
        self.log = folder / "log"
        self._hold = folder / "hold"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        # The first process of the pid namespace starts the engine again when it is killed.
        again = 'while :; do while [ -e hold ]; do sleep 0.1; done; rm -f pid; "$@"; done'
        command = ["sh", "-c", again, "sh", "dockerd", "-H", f"unix://{self.path}", "--bridge=none"]
        command += [f"--{name}=false" for name in ("iptables", "ip6tables", "ip-forward")]
        command += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "x")]
        command += ["--pidfile", str(self.folder / "pid")]
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.path.unlink(missing_ok=True)  # left by one that was killed
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*alone, "--propagation", "private", *command],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        self.await_answer()

    def await_answer(self) -> None:
        """Return once it answers."""
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no engine: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
            return sock.connect_ex(str(self.path)) == 0

    def kill(self) -> None:
        """Kill the engine, its containers and all else that it has started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_daemon(self) -> None:
        """Kill the engine alone: containers live on. `restart` starts it again."""
        assert self._process is not None
        self._hold.touch()
        shell = _children(self._process.pid)[0]
        for pid in _children(shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                await_end(pid)

    def restart(self) -> None:
        """Start the engine again after `kill_daemon`."""
        self._hold.unlink()
        self.await_answer()

    def containers(self) -> list[str]:
        """The names of all containers that it has."""
        with self.connection() as engine:
            return [one["Names"][0] for one in engine.api.containers(all=True)]

    @contextlib.contextmanager
    def connection(self) -> Iterator[ContainerEngine]:
        """A connection to it, as labs have one."""
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = f"unix://{self.path}"
        try:
            engine = ContainerEngine()
        finally:
            if before is None:
                del os.environ["DOCKER_HOST"]
            else:
                os.environ["DOCKER_HOST"] = before
        with contextlib.closing(engine):
            yield engine

    def import_base(self) -> None:
        """Give it an image without files: those of the host's /usr are to be mounted."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for name in _FOLDERS:
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(folder)
            for name in _LINKS:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(link)
        with self.connection() as engine, engine.blame("import"):
            told = engine.api.import_image_from_data(data.getvalue(), repository=BASE)
        if "error" in told:
            raise EngineError(told)

    def stop(self) -> None:
        """End it, and remove what it has written."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=False)
