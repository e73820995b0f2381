"""The kernels that can be booted: Debian's, and those that `testbed kernel build` has made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from testbed.errors import MissingProgram
from testbed.kernel.clock import USUAL_SEED, ClockName
from testbed.kernel.processes.process import find_program
from testbed.kernel.seeds import SEED_VARIABLE
from testbed.kernel.uml.store import BuiltKernel, find_kernel

PACKAGE: Final = "user-mode-linux"
#: The beginning of virtual time, ns since 1970: the same for every run, like everything in it.
_START: Final = 1_700_000_000 * 1_000_000_000

_MODULE_FOLDER = Path("/usr/lib/uml/modules")
_MODULES = (
    *("overlay", "veth", "ifb", "dummy", "bridge", "tun", "macvlan", "vxlan", "8021q"),
    *("sch_netem", "sch_tbf", "sch_htb", "sch_fq", "sch_fq_codel", "sch_codel", "sch_red"),
    *("sch_pie", "sch_cake", "sch_prio", "sch_sfq", "sch_ingress"),
    *("act_mirred", "act_gact", "cls_u32", "cls_matchall"),
    *("tcp_bbr", "tcp_bic", "tcp_cdg", "tcp_dctcp", "tcp_highspeed", "tcp_htcp", "tcp_hybla"),
    *("tcp_illinois", "tcp_lp", "tcp_nv", "tcp_scalable", "tcp_vegas", "tcp_veno"),
    *("tcp_westwood", "tcp_yeah"),
    *("nf_conntrack", "nf_tables", "nft_ct", "nft_nat", "nft_chain_nat", "nft_masq"),
    *("nft_reject_inet", "nft_log", "nft_limit", "nft_synproxy"),
)


class Bootable(msgspec.Struct, frozen=True, kw_only=True):
    """What User-Mode Linux is started with.

    program: the kernel. modules: files of kernel modules in the order in which they are loaded.
    words: for the kernel's command line. environment: variables that the command gets besides
    those of this process. exact: whether the clock is virtual.
    """

    program: Path
    modules: tuple[Path, ...] = ()
    words: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    exact: bool = False


def debian_kernel() -> Bootable:
    """The kernel of the package `user-mode-linux`. Raises `MissingProgram` without it."""
    program = Path(find_program("linux.uml", PACKAGE))
    tree = _module_tree(program)
    return Bootable(program=program, modules=tuple(modules_in_order(tree, _MODULES)))


def built_kernel(kernel: BuiltKernel, clock: ClockName, seed: int) -> Bootable:
    """A kernel of the user's own, by either clock.

    seed: of all randomness under the virtual clock, the kernel's and that of Python's hashes; the
    real clock makes no two runs alike and so takes none.
    """
    if clock == "real":
        return Bootable(program=kernel.program)
    return Bootable(
        program=kernel.program,
        words=("time-travel=inf-cpu", f"time-travel-start={_START}", f"uml_seed={seed}"),
        environment={
            "PYTHONHASHSEED": str(seed % (1 << 32)),
            "PYTHONFAULTHANDLER": "1",
            # A file that is made takes a random number (mm/shmem.c, i_generation): whether a
            # module is compiled already must not show.
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        exact=True,
    )


def choose_kernel(wanted: str | None, clock: ClockName, seed: int | None) -> Bootable:
    """The kernel that a user means: None for the usual one of the clock, or a built one's version.

    seed: handed to the command, for the links of its labs; None for the usual one of a virtual
    clock, and for none by the real clock. Raises `KernelError` or `MissingProgram` where the
    kernel is not there.
    """
    if seed is None and clock == "virtual":
        seed = USUAL_SEED
    if wanted is None and clock == "real":
        kernel = debian_kernel()
    else:
        kernel = built_kernel(find_kernel(wanted), clock, seed or 0)
    if seed is None:
        return kernel
    environment = {**kernel.environment, SEED_VARIABLE: str(seed)}
    return msgspec.structs.replace(kernel, environment=environment)


def modules_in_order(tree: Path, wanted: Iterable[str]) -> list[Path]:
    """The files of kernel modules and of all that they depend on, these first.

    tree: a folder with `modules.dep`, as depmod(8) writes it. Modules that it does not list are
    left out: another build of the kernel may have them built in.
    """
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).stem.replace("-", "_")] = (path, rest.split())
    ordered: dict[str, None] = {}
    for name in wanted:
        if name.replace("-", "_") in needs:
            file, others = needs[name.replace("-", "_")]
            # depmod lists dependencies in the order in which modprobe removes them.
            ordered.update(dict.fromkeys([*reversed(others), file]))
    return [tree / path for path in ordered]


def _module_tree(kernel: Path) -> Path:
    said = subprocess.run([kernel, "--version"], capture_output=True, text=True, check=False)
    tree = _MODULE_FOLDER / said.stdout.strip()
    if not (tree / "modules.dep").is_file():
        raise MissingProgram(
            f"The modules of {kernel} are not in {tree}. Install both: apt-get install {PACKAGE}"
        )
    return tree
