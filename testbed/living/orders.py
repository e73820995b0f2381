"""What a lab is told to do, by those who start it and by clients: plain data."""

from __future__ import annotations

import msgspec


class HolderOrder(msgspec.Struct, frozen=True, kw_only=True):
    """source: a topology's path or name; name: of the lab, that of the topology if None;
    captures: the folder for them."""

    source: str
    name: str | None = None
    captures: str | None = None


class HolderNews(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder tells once: the name of its lab, or what went wrong."""

    name: str = ""
    error: str = ""


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program to be run with streams of the client's.

    env: its environment, the holder's if None; cwd: its folder, likewise; terminal: whether its
    standard input is to be its controlling terminal.
    """

    argv: list[str]
    env: dict[str, str] | None = None
    cwd: str | None = None
    terminal: bool = False


class CaptureOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """live: every packet is written at once, for a viewer, and not in blocks."""

    live: bool = False
