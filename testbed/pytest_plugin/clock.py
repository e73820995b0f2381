"""`pytest --testbed-clock=virtual`: the same pytest, inside a kernel with a virtual clock."""

from __future__ import annotations

import os
import sys
from typing import Final

import pytest

from testbed.pytest_plugin.options import CLOCK, ENV, KERNEL, PATIENCE, SEED

#: Variables by which pytest itself is told what to do.
_OWN: Final = frozenset({"PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"})


def run_elsewhere(config: pytest.Config) -> int | None:
    """Run this command line of pytest in the kernel that it asks for, and return its exit status;
    None to go on here.

    What the tests write below pytest's root directory is kept. Time-outs of pytest-timeout would
    count virtual seconds, so they are off there; `--testbed-patience` takes their place. Plugins
    that spread tests over processes are left out: there is one processor.
    """
    from testbed.cli.kernel import KernelChoice
    from testbed.errors import TestbedError
    from testbed.kernel.uml import boot

    clock = config.getoption(CLOCK)
    if boot.inside():
        return None
    choice = KernelChoice(config.getoption(KERNEL), clock, config.getoption(SEED))
    words = [*map(str, config.invocation_params.args)]
    if clock == "virtual" and config.pluginmanager.hasplugin("timeout"):
        words += ["-o", "timeout=0"]
    if config.pluginmanager.hasplugin("xdist"):
        words += ["-n", "0"]
    try:
        kernel = choice.bootable()
        if kernel is None:
            return None
        return boot.run_in_uml(
            [sys.executable, "-m", "pytest", *words],
            kernel=kernel,
            writable=[config.rootpath],
            environment=boot.plain_environment([*_OWN & os.environ.keys(), *config.getoption(ENV)]),
            patience=config.getoption(PATIENCE),
        )
    except TestbedError as error:
        raise pytest.UsageError(str(error)) from None
