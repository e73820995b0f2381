"""The lab's side of a middlebox process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.errors import LabError
from testbed.kernel.processes.control import ControlChannel
from testbed.middlebox import messages
from testbed.middlebox.counters import BoxCounters, FunctionState
from testbed.middlebox.registry import function_options
from testbed.topology.yaml.options import read_options
from testbed.wording import suggestion


class MiddleboxClient:
    """Speaks with a middlebox process, `python -m testbed.middlebox.process --control FD`.

    Every method raises `LabError` when the middlebox refuses (an unknown function, an impossible
    option) and `ProcessDied` when it is gone.
    """

    def __init__(self, channel: ControlChannel) -> None:
        self._channel = channel

    def start(self, box: messages.Start) -> None:
        """Have packets carried. The middlebox gets descriptors of its own: the caller may close
        those in the message afterwards, and should."""
        self._channel.request(box, list[FunctionState])

    def counters(self) -> BoxCounters:
        """What became of every packet up to now."""
        return self._channel.request(messages.CountBox(), BoxCounters)

    def functions(self) -> Mapping[str, FunctionState]:
        """Every function of the box by name, as it is now, the outermost first."""
        states = self._channel.request(messages.Functions(), list[FunctionState])
        return {state.name: state for state in states}

    def log(self, last: int) -> list[str]:
        """The newest lines of its log, the newest last."""
        return self._channel.request(messages.Log(last), list[str])

    def function(self, name: str) -> FunctionHandle:
        """One function of the box. Raises LabError that names the nearest one."""
        known = self.functions()
        if name not in known:
            raise LabError(
                f"{self._channel.name} has no function '{name}'; it has "
                f"{', '.join(known) or 'none'}{suggestion(name, known)}"
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
        self._channel.request(messages.SetEnabled(self.name, enabled=True))

    def disable(self) -> None:
        """Let packets pass it by; connections that it has begun are carried on to their end."""
        self._channel.request(messages.SetEnabled(self.name, enabled=False))

    def set(self, /, **options: Any) -> None:
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
        self._channel.request(messages.SetOptions(self.name, values), dict[str, Any])

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
