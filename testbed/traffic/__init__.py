"""Real TCP endpoints in the nodes of a lab, with a clock for each phase."""

from testbed.traffic.bulk import Transfer, transfer
from testbed.traffic.request_response import Exchange, Responder, exchange, fast_open_exchange
from testbed.traffic.sampling import Sample, Stream, stream

__all__ = [
    "Exchange",
    "Responder",
    "Sample",
    "Stream",
    "Transfer",
    "exchange",
    "fast_open_exchange",
    "stream",
    "transfer",
]
