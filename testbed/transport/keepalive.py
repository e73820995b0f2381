"""Keepalive: whether a silent end is still there (RFC 9293 section 3.8.4)."""

from __future__ import annotations

from collections.abc import Callable

from testbed.transport.clock import Appointment, Timekeeper


class Keepalive:
    """Probes an end that was silent for `idle` seconds, again after `interval`, `probes` times.

    busy: whether something else is waited for. probe, give_up: what to do.
    """

    def __init__(
        self,
        clock: Timekeeper,
        idle: float,
        interval: float,
        probes: int,
        busy: Callable[[], bool],
        probe: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._idle, self._interval, self._probes = idle, interval, probes
        self._busy, self._probe, self._give_up = busy, probe, give_up
        self._heard_at = clock.now()
        self._unanswered = 0
        self._timer: Appointment | None = clock.call_later(idle, self._wake)

    def hear(self) -> None:
        """The end has sent something."""
        self._heard_at = self._clock.now()
        self._unanswered = 0

    def stop(self) -> None:
        """Probe no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        silent = self._clock.now() - self._heard_at
        wait = self._interval
        if silent < self._idle:
            wait = self._idle - silent
        elif self._busy():
            wait = self._idle
        elif self._unanswered >= self._probes:
            self._timer = None
            self._give_up()
            return
        else:
            self._unanswered += 1
            self._probe()
        self._timer = self._clock.call_later(wait, self._wake)
