"""The process that keeps one lab: `python -m testbed.living.holder --ready FD ORDER`.

It builds the lab, tells whoever started it that the lab runs, or why not, and answers requests
until it is told to end. A lab that nobody has heard of any more ends at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading

import msgspec

from testbed.errors import TestbedError
from testbed.kernel.processes import userns
from testbed.lab import Lab
from testbed.living.held import HeldLab
from testbed.living.orders import HolderNews, HolderOrder
from testbed.living.records import Claimed, claim_name
from testbed.living.server import ApiServer
from testbed.loading import load

_FAREWELL_SECONDS = 2.0


class _News:
    """The pipe to whoever started this process, until the one piece of news has been told."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "wb", buffering=0)

    def tell(self, news: HolderNews) -> bool:
        """Whether somebody has heard it; nobody hears anything after that."""
        with self._pipe:
            try:
                self._pipe.write(msgspec.json.encode(news))
            except BrokenPipeError:
                return False
        return True

    @property
    def told(self) -> bool:
        return self._pipe.closed


def hold(order: HolderOrder, ready: int) -> None:
    """Keep a lab until it is told to end, or interrupted."""
    news = _News(ready)
    try:
        userns.enter_if_needed()
        topology = load(order.source)
        claimed = claim_name(order.name or topology.name, order.source)
        try:
            _keep(Lab(topology, captures=order.captures), claimed, news)
        finally:
            claimed.give_up()
    except (TestbedError, KeyboardInterrupt) as error:
        if not news.told:  # those who end a lab are told by the API
            news.tell(HolderNews(error=str(error) or "The holder of the lab was told to end."))


def _keep(lab: Lab, claimed: Claimed, news: _News) -> None:
    held = HeldLab(lab.start(), claimed.record)
    try:
        with ApiServer(claimed.record.socket, held) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            held.begin()
            if news.tell(HolderNews(name=claimed.record.name)):
                _log_to(claimed)
                with contextlib.suppress(KeyboardInterrupt):
                    held.over.wait()
                held.end()
            server.drain(_FAREWELL_SECONDS)
    finally:
        held.end()


def _log_to(claimed: Claimed) -> None:
    """Have what nobody foresaw written to the lab's log, and not to a terminal."""
    with claimed.record.log.open("wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready", type=int, required=True)
    parser.add_argument("order")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    os.set_inheritable(arguments.ready, False)
    hold(msgspec.json.decode(arguments.order, type=HolderOrder), arguments.ready)


if __name__ == "__main__":
    main()
