"""`pytest --testbed-clock=virtual`: the same pytest, inside a kernel with a virtual clock."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import pytest

#: Variables by which pytest itself is told what to do.
_OWN: Final = frozenset({"PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"})


def run_inside(
    config: pytest.Config, seed: int | None, patience: float, variables: Sequence[str]
) -> int:
    """Run this command line of pytest in the kernel and return its exit status.

    What the tests write below pytest's root directory is kept. Time-outs of pytest-timeout would
    count virtual seconds, so they are off; `patience` takes their place. Plugins that spread
    tests over processes are left out: there is one processor. variables: of the environment, see
    `plain_environment`.
    """
    from testbed.errors import TestbedError
    from testbed.kernel.uml import boot
    from testbed.kernel.uml.kernels import choose_kernel

    words = [*config.invocation_params.args]
    if config.pluginmanager.hasplugin("timeout"):
        words += ["-o", "timeout=0"]
    if config.pluginmanager.hasplugin("xdist"):
        words += ["-n", "0"]
    try:
        return boot.run_in_uml(
            [sys.executable, "-m", "pytest", *map(str, words)],
            kernel=choose_kernel(None, "virtual", seed),
            writable=[config.rootpath],
            environment=boot.plain_environment([*_OWN & os.environ.keys(), *variables]),
            patience=patience,
        )
    except TestbedError as error:
        raise pytest.UsageError(str(error)) from None
