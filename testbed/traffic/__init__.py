"""Real TCP endpoints in the nodes of a lab, with a clock for each phase."""

from testbed.traffic.bulk import Transfer, transfer
from testbed.traffic.flood import SynFlood
from testbed.traffic.request_response import Exchange, Responder, exchange, fast_open_exchange
from testbed.traffic.sampling import Sample, Stream, stream
from testbed.traffic.service import Service, receive_exactly
from testbed.traffic.silence import (
    AfterSilence,
    exchange_after_silence,
    http_after_silence,
    http_request,
)

__all__ = [
    "AfterSilence",
    "Exchange",
    "Responder",
    "Sample",
    "Service",
    "Stream",
    "SynFlood",
    "Transfer",
    "exchange",
    "exchange_after_silence",
    "http_after_silence",
    "http_request",
    "fast_open_exchange",
    "receive_exactly",
    "stream",
    "transfer",
]
