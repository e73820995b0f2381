"""Which emulator a topology gets, decided before anything is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from testbed.emulator.builder import EmulatorBuilder, Workshop
from testbed.emulator.limits import refuse_impossible
from testbed.emulator.netem.builder import NetemBuilder
from testbed.emulator.netem.description import link_refusals, needed_kinds, stages
from testbed.emulator.netem.probe import NetemSupport, probe_netem
from testbed.emulator.userspace.builder import UserspaceBuilder
from testbed.errors import TopologyError
from testbed.kernel.clock import waits_are_exact
from testbed.kernel.namespace import Namespace
from testbed.kernel.seeds import seed_of_links
from testbed.topology.model import Link, Topology

_OTHER_KERNEL = "or another kernel: `testbed --kernel uml ...`"


class Choice(msgspec.Struct, frozen=True):
    """support: what this kernel can do, where netem is chosen."""

    emulator: Literal["userspace", "netem"]
    support: NetemSupport | None = None


def choose(topology: Topology, namespace: Namespace) -> Choice:
    """The emulator asked for; for `auto` netem if it can do everything, else userspace.

    namespace: where to try what the kernel can do; nothing else may be going on there. Raises
    `TopologyError` with every reason why it cannot be, and the ways out.
    """
    links = [link for link in topology.links if link.needs_emulator]
    if topology.emulator == "userspace":
        _refuse(userspace_problems(links))
        return Choice("userspace")
    kinds = {kind for link in links for each in stages(link) for kind in needed_kinds(each)}
    support = namespace.call(probe_netem, kinds)
    problems = netem_problems(topology, links, support)
    if topology.emulator == "netem":
        _refuse(problems)
    if not problems:
        return Choice("netem", support)
    others = userspace_problems(links)
    if others:
        _refuse([*(f"userspace: {line}" for line in others), *(f"netem: {x}" for x in problems)])
    return Choice("userspace")


def emulator_builder(
    topology: Topology, namespace: Namespace, workshop: Workshop
) -> EmulatorBuilder:
    """What makes the links of the emulator that `choose` takes; raises what it raises."""
    support = choose(topology, namespace).support
    seed = seed_of_links(topology.seed)
    if support is None:
        return UserspaceBuilder(workshop, topology.emulator_processes, seed)
    return NetemBuilder(workshop, support, seed)


def netem_problems(topology: Topology, links: Iterable[Link], support: NetemSupport) -> list[str]:
    """Why the links cannot be made of this kernel's qdiscs; empty when they can."""
    # The seed of a virtual clock is that of the kernel's own randomness, and so of netem's.
    seed = topology.seed if waits_are_exact() else seed_of_links(topology.seed)
    problems = []
    if support.missing:
        problems.append(
            f"This kernel has no {', '.join(support.missing)}, which links by netem need; use "
            f"`emulator: userspace` {_OTHER_KERNEL}."
        )
    elif seed and not support.seeded:
        problems.append(
            f"This kernel's netem cannot be given the seed {seed}: only Linux 6.6 and "
            "later can; use `emulator: userspace`, which replays exactly, or leave the seed out."
        )
    return problems + _told_of_links((link, link_refusals(link)) for link in links)


def userspace_problems(links: Iterable[Link]) -> list[str]:
    """Why the links cannot be made by the userspace emulator; empty when they can."""
    return _told_of_links((link, _userspace_refusals(link)) for link in links)


def _userspace_refusals(link: Link) -> Iterable[str]:
    found = []
    if link.offload:
        found.append(
            "the userspace emulator takes frames as a wire carries them and cannot have `offload`; "
            f"leave it out, or use `emulator: netem` on a kernel that has it ({_OTHER_KERNEL})"
        )
    for impairments in stages(link):
        try:
            refuse_impossible(impairments)
        except ValueError as error:
            found.append(f"{error} ({_OTHER_KERNEL})" if impairments.queue.aqm else str(error))
    return dict.fromkeys(found)


def _told_of_links(refusals: Iterable[tuple[Link, Iterable[str]]]) -> list[str]:
    return [
        f"link {link.endpoints[0]} to {link.endpoints[1]}: {reason}"
        for link, reasons in refusals
        for reason in reasons
    ]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise TopologyError(problems)
