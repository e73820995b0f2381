"""Rulesets of the kernel's own packet filter, loaded into nodes by the program `nft`."""

from __future__ import annotations

import tempfile
from typing import Final

from testbed.errors import CommandFailed, KernelError
from testbed.kernel.processes.group import ProcessGroup
from testbed.kernel.processes.process import find_program
from testbed.lab.node_builder import NodeBuilder
from testbed.topology.model import Ruleset

PROGRAM: Final = ("nft", "nftables")  # and its Debian package
_SECONDS: Final = 30.0


def load(group: ProcessGroup, builder: NodeBuilder, ruleset: Ruleset) -> None:
    """Load it into the node's namespace, all of it or nothing.

    Raises `KernelError` with what nft says, which names lines of the file; `MissingProgram`.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".nft") as file:
        file.write(ruleset.text)
        file.flush()
        process = group.start(builder.namespace, [find_program(*PROGRAM), "-f", file.name])
        try:
            process.finish(_SECONDS)
        except CommandFailed as error:
            said = error.stderr.replace(file.name, ruleset.file).strip()
            raise KernelError(
                f"node '{builder.name}': the ruleset {ruleset.file} was not loaded:\n"
                f"{said or error}"
            ) from None
