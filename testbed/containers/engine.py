"""The container engine of this machine, reached by its socket."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from testbed.errors import EngineError

LEAST_VERSION: Final = (1, 41)
"""Of the engine's API; that of Docker 20.10."""

_SOCKET: Final = "/var/run/docker.sock"
_SECONDS: Final = 60.0
_CONNECTIONS: Final = 32
_START = "Start it (`systemctl start docker`, or `dockerd`)"
_ELSEWHERE = "where one listens elsewhere, set DOCKER_HOST=unix://PATH"


def socket_path() -> str:
    """The path of the engine's socket, by DOCKER_HOST or the usual one.

    Raises `EngineError` for an engine that is not on this machine.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if not host:
        return _SOCKET
    if not host.startswith("unix://"):
        raise EngineError(
            f"DOCKER_HOST is {host}, and a lab needs a container engine on this machine, whose "
            "namespaces it can enter. Set it to unix://PATH, or unset it."
        )
    return host.removeprefix("unix://")


class ContainerEngine:
    """A connection to the engine, for any number of threads.

    Raises `EngineError` where there is no engine, this user may not use it, or it is too old.
    """

    def __init__(self) -> None:
        self.path = socket_path()
        _try_socket(self.path)
        # Slow to import.
        from docker import APIClient

        with self.blame("a container engine"):
            self.api: Any = APIClient(
                base_url=f"unix://{self.path}",
                version="auto",
                timeout=_SECONDS,
                max_pool_size=_CONNECTIONS,
            )
            known = self.api.version(api_version=False)
        self.version = str(known.get("Version", "unknown"))
        self._check_version(str(known.get("ApiVersion", "0")))

    def _check_version(self, found: str) -> None:
        if tuple(int(part) for part in found.split(".")) < LEAST_VERSION:
            wanted = ".".join(map(str, LEAST_VERSION))
            raise EngineError(
                f"The container engine at {self.path} is too old: version {self.version} speaks "
                f"API {found}, and {wanted} is needed. Install Docker 20.10 or later."
            )

    def close(self) -> None:
        """Close its connections."""
        self.api.close()

    @contextlib.contextmanager
    def blame(self, what: str) -> Iterator[None]:
        """Tell what the engine refuses as an `EngineError` that begins with `what`."""
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException

        try:
            yield
        except APIError as error:
            said = str(error.explanation or error).strip()
            raise EngineError(f"{what}: the container engine says: {said}{_cure(said)}") from None
        except (DockerException, RequestException, OSError) as error:
            raise EngineError(
                f"{what}: the container engine at {self.path} does not answer: {error}"
            ) from None

    @cached_property
    def _missing(self) -> type[Exception]:
        from docker.errors import NotFound

        found: type[Exception] = NotFound
        return found

    def image(self, name: str) -> Mapping[str, Any] | None:
        """What the engine tells of an image, None where it has none of that name."""
        with self.blame(f"image {name}"):
            try:
                found: Mapping[str, Any] = self.api.inspect_image(name)
            except self._missing:
                return None
        return found

    def remove(self, container: str) -> None:
        """Kill and remove a container, if it is there still."""
        with self.blame(f"container {container[:12]}"), contextlib.suppress(self._missing):
            self.api.remove_container(container, force=True, v=True)


def _try_socket(path: str) -> None:
    """Raise `EngineError` unless something accepts connections there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(path)
        except PermissionError:
            raise EngineError(
                f"This user may not use the container engine at {path}. Run as root: container "
                "nodes need it for the network namespaces of their containers, too."
            ) from None
        except OSError as error:
            there = Path(path).exists()
            raise EngineError(
                f"No container engine answers at {path} ({os.strerror(error.errno or 0)}). "
                f"{_START if there else 'Install one (apt-get install docker.io)'}; {_ELSEWHERE}."
            ) from None


def _cure(said: str) -> str:
    """What to do about a refusal, where it is known."""
    words = said.lower()
    if "caps:" in words or "capabilit" in words:
        return (
            ". The engine's own processes do not have all of these capabilities (see CapBnd in "
            "/proc/PID/status of dockerd): leave out of `capabilities:` what is not needed."
        )
    if "no such image" in words:
        return ". `pull: true` of the node (or --pull) lets the engine fetch it."
    return ""
