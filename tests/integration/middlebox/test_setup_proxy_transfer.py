"""A megabyte each way through the setup proxy, byte for byte, with loss, with any options."""

from __future__ import annotations

from typing import Any

import pytest
from box_lab import MEGABYTE, box_lab, exchange, exchange_over_both, proxy_counters

SACK, TIMESTAMPS, SCALING = (
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_window_scaling",
)


@pytest.mark.parametrize("handshake_data", ["drop", "hold"])
@pytest.mark.parametrize("stamps", [0, 1])
def test_with_loss_and_cookies(handshake_data, stamps):
    options = {"cookies": "true", "handshake_data": handshake_data}
    with box_lab(options, client={TIMESTAMPS: stamps}, loss="1%", seed=4) as lab:
        exchange_over_both(lab)
        counters = proxy_counters(lab)
        assert counters["cookies-accepted"] == counters["spliced"] == 2


@pytest.mark.parametrize("opening", ["simultaneous", "serial"])
def test_with_loss(opening):
    with box_lab({"opening": opening}, loss="1%") as lab:
        exchange_over_both(lab)
        assert proxy_counters(lab)["spliced"] == 2


@pytest.mark.parametrize(
    ("end", "option"),
    [
        ("client", SACK),
        ("client", TIMESTAMPS),
        ("client", SCALING),
        ("server", TIMESTAMPS),
        ("server", SCALING),
    ],
)
def test_with_loss_and_an_option_missing_on_one_end(end, option):
    settings: dict[str, Any] = {end: {option: 0}}
    with box_lab(**settings, loss="1%", seed=2) as lab:
        exchange_over_both(lab)


@pytest.mark.parametrize(("told", "loss"), [("false", "1%"), ("true", "0.2%")])
def test_with_loss_and_a_server_without_sack(told, loss):
    """A client that was promised SACK needs a time-out for nearly every loss."""
    with box_lab({"sack": told}, server={SACK: 0}, loss=loss) as lab:
        exchange_over_both(lab)


def test_with_loss_and_no_options_at_all():
    off = dict.fromkeys((SACK, TIMESTAMPS, SCALING), 0)
    with box_lab(client=off, server=off, loss="1%", seed=3) as lab:
        exchange_over_both(lab)


@pytest.mark.parametrize(
    "options",
    [
        {"window_scale": "none", "sack": "false", "timestamps": "false"},
        {"window_scale": 14},
        {"window_scale": 0},
        {"mss": 536},
    ],
    ids=str,
)
def test_with_what_the_proxy_offers(options):
    """The path is long enough for untranslated windows not to make it within the time limit."""
    with box_lab(options, delay="20ms") as lab:
        exchange_over_both(lab)


def test_a_server_with_a_smaller_mss_gets_no_larger_segments():
    with box_lab(routes="[{to: client, advmss: 600}]") as lab:
        exchange(lab, 4)
        # Every full segment of the client has to be cut into three.
        assert lab["router"].counters().created > 2 * len(MEGABYTE) / 1460
