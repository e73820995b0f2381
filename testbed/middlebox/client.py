"""The lab's side of a middlebox process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from testbed.errors import LabError
from testbed.kernel.processes.control import ControlChannel
from testbed.middlebox.counters import BoxCounters, FunctionState
from testbed.middlebox.registry import function_options, nearest
from testbed.topology.model import FunctionSpec
from testbed.topology.yaml.options import read_options


class MiddleboxClient:
    """Speaks with a middlebox process, `python -m testbed.middlebox --control FD`.

    Every method raises `LabError` when the middlebox refuses (an unknown function, an impossible
    option) and `ProcessDied` when it is gone.
    """

    def __init__(self, channel: ControlChannel) -> None:
        self._channel = channel

    def ready(self) -> None:
        """Return when the process is up."""
        self._channel.request("ready")

    def start(
        self,
        name: str,
        functions: Sequence[FunctionSpec],
        mtu: int,
        outside_fd: int,
        inside_fd: int,
        *,
        steered: Sequence[int] = (),
        cpu: int | None = None,
        receivers: Collection[int] = (),
        outside: Sequence[str] = (),
        inside: Sequence[str] = (),
        log_directory: int | None = None,
    ) -> None:
        """Carry packets between two TUN descriptors, through `functions`, the outermost first.

        mtu: the smallest of the node's interfaces. steered: descriptors of a second TUN on the
        outside and on the inside, steered to the processors `receivers`, for the packets that it
        sends under load, when it runs on `cpu`. outside, inside: the addresses that the node
        itself has there. log_directory: a descriptor of where its logs go. The middlebox gets
        descriptors of its own: the caller may close these afterwards, and should.
        """
        logs = () if log_directory is None else (log_directory,)
        self._channel.request(
            "start",
            fds=(outside_fd, inside_fd, *steered, *logs),
            name=name,
            functions=[
                {"name": function.name, "options": dict(function.options)} for function in functions
            ],
            mtu=mtu,
            cpu=cpu,
            receivers=sorted(receivers),
            outside=list(outside),
            inside=list(inside),
        )

    def counters(self) -> BoxCounters:
        """What became of every packet up to now."""
        return msgspec.convert(self._channel.request("counters"), BoxCounters)

    def functions(self) -> Mapping[str, FunctionState]:
        """Every function of the box by name, as it is now, the outermost first."""
        states = msgspec.convert(self._channel.request("functions"), list[FunctionState])
        return {state.name: state for state in states}

    def log(self, last: int) -> list[str]:
        """The newest lines of its log, the newest last."""
        return msgspec.convert(self._channel.request("log", last=last), list[str])

    def function(self, name: str) -> FunctionHandle:
        """One function of the box. Raises LabError that names the nearest one."""
        known = self.functions()
        if name not in known:
            raise LabError(
                f"{self._channel.name} has no function '{name}'{nearest(name, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )
        return FunctionHandle(self, self._channel, name)


class FunctionHandle:
    """One function of a running middlebox; what it tells is asked from the process each time."""

    def __init__(self, client: MiddleboxClient, channel: ControlChannel, name: str) -> None:
        self._client = client
        self._channel = channel
        self.name = name

    def __repr__(self) -> str:
        return f"<FunctionHandle {self.name} of {self._channel.name}>"

    def enable(self) -> None:
        """Let it act on packets again."""
        self._channel.request("enable", function=self.name)

    def disable(self) -> None:
        """Let packets pass it by; connections that it has begun are carried on to their end."""
        self._channel.request("disable", function=self.name)

    def set(self, **options: Any) -> None:
        """Change some options; they hold from the next packet on.

        Values are as in YAML (`idle_timeout="5s"`), or numbers in seconds, bytes, bit/s and
        probabilities. Raises `LabError` for an unknown option or an impossible value.
        """
        values, problems = read_options(
            self.name, options, function_options(), (), from_python=True, partial=True
        )
        if problems:
            told = "; ".join(map(str, problems))
            raise LabError(f"{self._channel.name}: {told}")
        self._channel.request("set", function=self.name, options=values)

    @property
    def enabled(self) -> bool:
        return self._state().enabled

    @property
    def options(self) -> dict[str, Any]:
        """All options in force."""
        return self._state().options

    def counters(self) -> dict[str, int]:
        """What the function has counted, by the function's own names."""
        return self._state().counters

    def _state(self) -> FunctionState:
        return self._client.functions()[self.name]
