"""Topologies that the tests of labs share, and an account of what this process holds."""

from __future__ import annotations

import contextlib
import threading
from itertools import pairwise
from pathlib import Path

from testbed.topology.model import Endpoint, FunctionSpec, Link, Node, Topology


def link(a: str, b: str, **settings) -> Link:
    """A link between `node:interface` and `node:interface`."""
    ends = Endpoint(*a.split(":")), Endpoint(*b.split(":"))
    return Link(endpoints=ends, **settings)


def container(*, settings=None, **node) -> Node:
    """A container of an image without files, with this machine's /usr, that does nothing."""
    usual = {
        "image": "testbed-tests/base",
        "command": ("sleep", "infinity"),
        "mounts": ({"source": "/usr", "target": "/usr"},),
    }
    return Node(kind="container", settings={**usual, **(settings or {})}, **node)


def pair(*, left=None, right=None, captures=(), seed=0, **settings) -> Topology:
    """Two hosts, `a` and `b`, joined by one link; left and right: settings of the nodes."""
    return Topology(
        name="pair",
        nodes={"a": Node(name="a", **(left or {})), "b": Node(name="b", **(right or {}))},
        links=(link("a:eth0", "b:eth0", **settings),),
        captures=tuple(Endpoint(node, "eth0") for node in captures),
        seed=seed,
    )


def boxed(captures=()) -> Topology:
    """A client and a server with a middlebox between them, over emulated links."""
    proxy = FunctionSpec("setup-proxy", {"handshake_data": "drop"})
    return Topology(
        name="boxed",
        nodes={
            "client": Node(name="client"),
            "box": Node(name="box", kind="middlebox", outside="client", functions=(proxy,)),
            "server": Node(name="server"),
        },
        links=(
            link("client:eth0", "box:outside", emulated=True),
            link("box:inside", "server:eth0", emulated=True),
        ),
        captures=tuple(Endpoint(node, "eth0") for node in captures),
    )


def star(hosts: int) -> Topology:
    """Hosts h0, h1, ... on one switch."""
    names = [f"h{number}" for number in range(hosts)]
    return Topology(
        name="star",
        nodes={
            "switch": Node(name="switch", kind="switch"),
            **{name: Node(name=name) for name in names},
        },
        links=tuple(link(f"switch:{name}", f"{name}:eth0") for name in names),
    )


def chain(routers: int) -> Topology:
    """Hosts `a` and `b` with routers r1, r2, ... between them."""
    inner = [f"r{number}" for number in range(1, routers + 1)]
    names = ["a", *inner, "b"]
    return Topology(
        name="chain",
        nodes={name: Node(name=name, kind="router" if name in inner else "host") for name in names},
        links=tuple(link(f"{here}:right", f"{there}:left") for here, there in pairwise(names)),
    )


def belongings() -> dict[str, set]:
    """What this process holds: descriptors of namespaces and devices, threads, children."""
    held = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if target.startswith(("net:", "pipe:", "socket:", "/dev/net", "/tmp")):
            held.add((fd.name, target))
    children = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            children |= set((task / "children").read_text().split())
    threads = {one.name for one in threading.enumerate() if one.name.startswith("testbed")}
    return {"descriptors": held, "children": children, "threads": threads}


def since(before: dict[str, set]) -> dict[str, set]:
    """What this process holds now and did not hold before."""
    return {what: held - before[what] for what, held in belongings().items()}
