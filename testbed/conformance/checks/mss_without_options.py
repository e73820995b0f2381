"""Options missing from TCP MSS calculation (RFC 2525 section 2.18).

RFC 1122 section 4.2.2.6, RFC 6691, RFC 9293 section 3.7.1: the options of IP and TCP in a packet
are to be taken off what its payload may have.

What is looked at: segments with options, of which the payload and the options together exceed the
peer's MSS; and segments that their own sender's IP has cut, which carry options. A payload that
only looks so before segmentation offload has cut it uses up several IP identifications; so one
counts where the next segment has the next number, as captures that have none (IPv6) cannot show.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.wire.flags import SYN

_ETHERNET_MTU = 1500
_UNIT = 8  # bytes; of fragments (RFC 791)
_HEADERS = 40  # bytes of IPv4 and TCP without options
_LEAST = 2  # segments


@check("mss-without-options", section="2.18")
def ask(party: Party) -> Ruling:
    with_options = [
        turn
        for turn in party.turns
        if turn.own and turn.length and _options(turn) and not turn.has(SYN)
    ]
    if not with_options:
        return undecided("no data was sent with options")
    cut = [turn for turn in with_options if turn.segment.fragment]
    at_home = [turn for turn in cut if _cut_at(turn, _own_mtu(party))]
    if at_home:
        one = at_home[0]
        return fails(
            f"a packet with {_options(one)} bytes of options was cut by IP at the sender's own MTU "
            f"of {_own_mtu(party):,}: they were not taken off its payload (RFC 9293, 3.7.1)",
            (turn.segment for turn in at_home),
        )
    if cut:
        return undecided("packets were cut by IP, perhaps on the way", (t.segment for t in cut))
    if party.mss is None:
        return undecided("the capture does not have the MSS that the peer's SYN permits")
    mss = party.mss
    too_large = [turn for turn in with_options if turn.length + _options(turn) > mss]
    if not too_large:
        full = [turn for turn in with_options if mss - turn.length - _options(turn) < _UNIT]
        if full:
            return passes(
                f"{full[0].length:,} bytes of payload and {_options(full[0])} of options, at an "
                f"MSS of {mss:,}",
                (full[0].segment,),
            )
        return undecided("no full-sized segment was sent with options")
    whole = [turn for turn in too_large if _one_packet(party, turn)]
    if party.offloaded or len(whole) < _LEAST:
        return undecided(
            party.offloaded or "segments exceed the MSS, but segmentation may have cut them later",
            (turn.segment for turn in too_large),
        )
    one = whole[0]
    return fails(
        f"{one.length:,} bytes of payload and {_options(one)} of options, at an MSS of {mss:,}: "
        "RFC 9293 (3.7.1) takes options off",
        (turn.segment for turn in whole),
    )


def _options(turn: Turn) -> int:
    """Bytes of options of IP and TCP."""
    segment = turn.segment
    version = 6 if ":" in segment.source.address else 4
    of_ip = segment.ip_header_length - (20 if version == 4 else 40)
    return segment.header_length - 20 + of_ip


def _own_mtu(party: Party) -> int:
    """As the endpoint's own MSS tells it, else that of Ethernet."""
    for turn in party.turns:
        if turn.own and turn.has(SYN) and turn.segment.options.mss:
            return turn.segment.options.mss + _HEADERS
    return _ETHERNET_MTU


def _cut_at(turn: Turn, mtu: int) -> bool:
    """Whether a first fragment is as large as an MTU lets it be."""
    segment = turn.segment
    size = segment.ip_header_length + segment.header_length + segment.length
    return mtu - _UNIT < size <= mtu


def _one_packet(party: Party, turn: Turn) -> bool:
    """Whether it left as one packet: the next one has the next identification."""
    own = turn.segment.ip_identification
    following = next((t for t in party.turns if t.own and t.row > turn.row), None)
    if not own or following is None:
        return False
    return following.segment.ip_identification == (own + 1) & 0xFFFF
