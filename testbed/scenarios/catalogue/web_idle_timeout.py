"""A web server behind a NAT that forgets silent connections: the `idle-timeout` case with nginx.

The browser's way: one connection is kept open between requests (RFC 9112 section 9.3), for as
long as the server allows, here 75 s. The NAT forgets it after two.
"""

from __future__ import annotations

from typing import Literal

from testbed.scenarios import Experiment, Measurements, scenario
from testbed.scenarios.catalogue.idle_timeout import (
    CLIENT,
    FUNCTION,
    NAT,
    SERVER,
    judge,
    measurements,
)
from testbed.topology.vary import with_function
from testbed.traffic import http_after_silence, http_request

_SECONDS_OF_KEEPALIVE = 1
_GIVE_UP = 1.5


@scenario(
    "web-idle-timeout",
    topology="web-idle-timeout",
    grid={"on_timeout": ("silent", "reset"), "keepalive": ("off", "on")},
    judge=judge,
    columns={
        "on_timeout": "NAT on time-out",
        "keepalive": "keepalive of the client",
        "probes": "probes",
        "outcome_ms": "outcome after (ms)",
        "retransmissions": "retransmissions",
        "resets": "resets",
    },
    labels={"on_timeout": {"silent": "drops silently", "reset": "sends a reset"}},
    machine_needs="the container engine",
)
def web_idle_timeout(
    experiment: Experiment,
    on_timeout: Literal["silent", "reset"] = "silent",
    keepalive: Literal["off", "on"] = "off",
    silence: float = 3.0,
) -> Measurements:
    """A second request to nginx, over a connection that a NAT has forgotten meanwhile.

    silence: seconds between the two requests.
    """
    topology = with_function(experiment.topology, NAT, FUNCTION, on_timeout=on_timeout)
    with experiment.lab(topology) as lab:
        found = http_after_silence(
            lab[CLIENT],
            lab[SERVER],
            silence=silence,
            keepalive=_SECONDS_OF_KEEPALIVE if keepalive == "on" else None,
            give_up=_GIVE_UP,
        )
    return measurements(experiment, found, 2 * len(http_request(SERVER)))
