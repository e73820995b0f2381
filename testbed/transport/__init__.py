"""A TCP in parts, without a kernel: pure, for an accelerator and for whole endpoints.

From below: `clock` (what time is asked of), `timeout` (RFC 6298), `congestion` (RFC 5681), `sender`
and `receiver` (the two halves of one end), `connection` (RFC 9293), `host` (all connections of a
node), and `faults`: what some implementations do wrong, each a small class in a part's place.

Nothing here looks at a clock or a descriptor: packets and moments come in, packets go out. What a
packet says is never believed, and what is kept of it is bounded.
"""
