"""Packets as bytes: headers, options, checksums. Pure."""
