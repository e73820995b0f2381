"""Packets as bytes, for everybody who reads, makes or changes one. Pure.

From below: `buffer` (what bytes lie in), `flags` and `sequence` (of TCP), `ip` (headers of both
versions, extension headers, fragments), `checksum`, `options` (of TCP), `frame` (link types, VLAN
tags), `packet` (a view of one IP packet), `fragment`, `edit` (changes in place), `craft` (packets
made from scratch), `icmp` (errors and what they quote).

Nothing here raises for what comes from a network: what cannot be read is None, False or `OPAQUE`.
"""
