"""mahimahi (Netravali et al., USENIX ATC 2015) as a peer of emulation.py, where it is installed.

Its shells `mm-delay` and `mm-link` refuse to be run by root, are setuid root themselves, and put
the program that they start behind a link into a network namespace of their own. All of this
happens in a node of a lab, so that nothing of the host's changes. One shell can be put into the
other only where the host itself forwards packets: a path with a rate has no delay here.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from emulation_paths import GRACE, LOAD, Conditions, Done, Unavailable

from testbed.lab import Lab, LabNode
from testbed.topology.model import Node, Topology

SOURCE = "https://github.com/ravinet/mahimahi"
OPPORTUNITY = 1500 * 8  # bits of IP packets that may pass at a time in a trace
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Mahimahi:
    """folder: where its programs are; None looks for them in PATH."""

    name = "mahimahi"

    def __init__(self, folder: Path | None) -> None:
        if os.geteuid() != 0:
            raise Unavailable("mahimahi can be put into a lab by root only")
        self.delay, self.link = (self._program(name, folder) for name in ("mm-delay", "mm-link"))
        for needed in ("iptables", "dnsmasq"):
            if shutil.which(needed, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
                raise Unavailable(f"mahimahi needs {needed}")
        self.idle_cpu: float | None = None

    @staticmethod
    def _program(name: str, folder: Path | None) -> str:
        found = shutil.which(name, path=None if folder is None else str(folder))
        if found is None:
            raise Unavailable(
                f"{name} was not found: build it from {SOURCE}, make it setuid root and name its "
                "folder by --mahimahi"
            )
        status = Path(found).stat()
        if status.st_uid != 0 or not status.st_mode & stat.S_ISUID:
            raise Unavailable(f"{found} has to be setuid root: chown root, chmod u+s")
        return found

    @contextmanager
    def path(self, conditions: Conditions) -> Iterator[MahimahiPath]:
        outside = Topology(name="benchmark", nodes={"far": Node(name="far")})
        with tempfile.TemporaryDirectory() as folder, Lab(outside) as lab:
            Path(folder).chmod(0o755)  # for nobody
            load = shutil.copy(LOAD, folder)
            lab["far"].set_sysctl("net.ipv4.ip_forward", 1)
            path = MahimahiPath(lab["far"], self.shell(conditions, Path(folder)), load)
            if self.idle_cpu is None:
                self.idle_cpu = path.run("pace", 9, 0, 0, 8, seconds=0).cpu
            path.idle_cpu = self.idle_cpu or 0.0
            yield path

    def shell(self, conditions: Conditions, folder: Path) -> list[str]:
        """The command that runs another one behind such a link."""
        if conditions.rate is None:
            return [self.delay, str(round(conditions.delay * 1000))]
        trace = folder / "trace"
        trace.write_text("".join(f"{moment}\n" for moment in opportunities(conditions.rate)))
        queues = [
            word
            for way in ("uplink", "downlink")
            for word in (
                f"--{way}-queue=droptail",
                f"--{way}-queue-args=packets={conditions.limit}",
            )
        ]
        return [self.link, str(trace), str(trace), *queues, "--"]


def opportunities(rate: float) -> list[int]:
    """A trace of `rate` bit/s: the milliseconds in which a full-sized packet may pass.

    It is as short as comes out exactly, such as 250 packets in 3 ms for 1 Gbit/s.
    """
    per_millisecond = Fraction(round(rate), OPPORTUNITY * 1000).limit_denominator(10_000)
    count, lasts = per_millisecond.as_integer_ratio()
    return [-(-number * lasts // count) for number in range(1, count + 1)]


class MahimahiPath:
    """From inside a shell (near) to the node in which it was started (far)."""

    overhead = 0

    def __init__(self, far: LabNode, shell: list[str], load: str) -> None:
        self.far = far
        self.idle_cpu = 0.0
        self._shell = shell
        self._load = load

    def run(self, program: str, *words: object, seconds: float) -> Done:
        python = str(Path(sys.executable).resolve())
        inside = [python, self._load, program, "$MAHIMAHI_BASE", *map(str, words)]
        argv = [sys.executable, LOAD, "around", *NOBODY, *self._shell, *inside]
        done = json.loads(self.far.run(argv, timeout=seconds + GRACE).stdout)
        # Less that of the load itself, and of starting the shells.
        used = done["cpu"] - done["output"]["cpu"] - self.idle_cpu
        return Done(done["output"], max(0.0, used))

    def lateness(self) -> None:
        return None
