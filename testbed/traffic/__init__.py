"""Real TCP endpoints in the nodes of a lab, with a clock for each phase."""

from testbed.traffic.bulk import Transfer, transfer
from testbed.traffic.request_response import Exchange, Responder, exchange, fast_open_exchange

__all__ = ["Exchange", "Responder", "Transfer", "exchange", "fast_open_exchange", "transfer"]
