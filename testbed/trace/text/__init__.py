"""Logs of packets as text, such as tcpdump prints: lines, notations, and a capture of them."""
