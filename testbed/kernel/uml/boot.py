"""Another kernel for one command: User-Mode Linux, an ordinary program that needs no privileges.

Debian's package `user-mode-linux` holds the kernel and its modules. The command finds the same
files as outside, this project and its interpreter among them; what it writes is forgotten,
except in the folders that are named as writable. There is one processor, and no network.
Source: Documentation/virt/uml/user_mode_linux_howto_v2.rst.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from testbed.errors import KernelError, MissingProgram
from testbed.kernel.processes.process import find_program
from testbed.kernel.uml import init as uml_init

PACKAGE = "user-mode-linux"
#: In the environment of a command that runs inside.
MARK = "TESTBED_KERNEL"

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
_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 3.0
_LAST_WORDS = 15  # lines of the kernel's console
_libc = ctypes.CDLL(None, use_errno=True)


class Ending(msgspec.Struct):
    """What is known of a run: whether the command was reached, and its status at the end."""

    ready: bool = False
    status: int | None = None

    def hear(self, message: str) -> None:
        word, _, rest = message.partition(" ")
        if word == "ready":
            self.ready = True
        elif word == "status":
            self.status = int(rest)


def inside() -> bool:
    """Whether this very process runs inside User-Mode Linux by our doing."""
    return os.environ.get(MARK) == "uml"


def run_in_uml(
    argv: Sequence[str],
    *,
    writable: Iterable[str | os.PathLike[str]] = (),
    environment: Mapping[str, str] | None = None,
    memory: str = "1G",
) -> int:
    """Run a command inside User-Mode Linux as root there, and return its exit status.

    Its output comes as it is written. It starts in the current folder, with this process's
    environment unless another one is given, and without input. writable: folders that it writes
    through to; they must be there. A command ended by signal N gives 128 + N, one that does not
    exist 127. An interrupt (Ctrl-C) ends the kernel with everything in it.

    Raises `MissingProgram` where the package is not installed, `KernelError` when the kernel
    ends before the command does, with its last words.
    """
    kernel = find_program("linux.uml", PACKAGE)
    variables = dict(os.environ if environment is None else environment)
    terminal = os.get_terminal_size(1) if os.isatty(1) and os.isatty(2) else None
    spec = {
        "argv": list(argv),
        "folder": str(Path.cwd()),
        "environment": {**variables, MARK: "uml"},
        "modules": [str(path) for path in modules_in_order(_module_tree(kernel), _MODULES)],
        "writable": [str(Path(folder).resolve(strict=True)) for folder in writable],
        "terminal": None if terminal is None else [terminal.lines, terminal.columns],
    }
    with _workshop() as workshop, tempfile.TemporaryFile() as console:
        (workshop / "spec").write_text(json.dumps(spec))
        # Links: words of the kernel's command line must not have spaces in them.
        (workshop / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
        (workshop / "init").symlink_to(uml_init.__file__)
        ending = _run(kernel, memory, workshop, console.fileno())
        if ending.status is None:
            console.seek(0)
            lines = console.read().decode(errors="replace").splitlines()
            stage = "before the command ended" if ending.ready else "before it was up"
            told = "\n".join(lines[-_LAST_WORDS:])
            raise KernelError(f"User-Mode Linux ended {stage}. Its console said:\n{told}")
    return ending.status


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


def _module_tree(kernel: str) -> Path:
    said = subprocess.run([kernel, "--version"], capture_output=True, text=True, check=False)
    tree = _MODULE_FOLDER / said.stdout.strip()
    if not (tree / "modules.dep").is_file():
        raise MissingProgram(
            f"The modules of {kernel} are not in {tree}. Install both: apt-get install {PACKAGE}"
        )
    return tree


@contextmanager
def _workshop() -> Iterator[Path]:
    """A folder for the start; gone as soon as the kernel is up, and at the end in any case."""
    parent = os.environ.get("TMPDIR") or tempfile.gettempdir()
    plain = not set(parent) & set(" \t\n\"'=,")
    folder = Path(tempfile.mkdtemp(prefix="testbed-uml-", dir=parent if plain else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(kernel: str, memory: str, workshop: Path, console: int) -> Ending:
    """Boot, pass on what comes out, and return how it ended."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    lines = [f"con{number}=null,fd:{write}" for number, (_, write) in enumerate(pipes, 1)]
    try:
        guest = subprocess.Popen(
            [
                *(kernel, f"mem={memory}", f"uml_dir={workshop}/", "umid=kernel", "quiet"),
                *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
                *("con=null", f"con0=null,fd:{console}", *lines),
                *(f"init={workshop}/python", "--", "-I", "-S"),
                *(f"{workshop}/init", f"{workshop}/spec"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=[console, *(write for _, write in pipes)],
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    finally:
        for _, write in pipes:
            os.close(write)
    previous = {number: signal.signal(number, _interrupt) for number in _ENDING_SIGNALS}
    try:
        return _pass_on([read for read, _ in pipes], workshop)
    finally:
        _end(guest)
        for number, handler in previous.items():
            signal.signal(number, handler)
        for read, _ in pipes:
            os.close(read)


_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _die_with_parent() -> None:
    # The kernel's own handler of SIGTERM ends the processes inside it, which SIGKILL would not.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _pass_on(sources: Sequence[int], workshop: Path) -> Ending:
    """Copy output and errors to ours until all ends are closed; take note of the messages."""
    ending = Ending()
    heard = b""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                elif key.fd == sources[2]:
                    *messages, heard = (heard + data).split(b"\n")
                    for message in messages:
                        ending.hear(message.decode())
                    if ending.ready:
                        shutil.rmtree(workshop, ignore_errors=True)
                else:
                    _write(1 if key.fd == sources[0] else 2, data)
    return ending


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _end(guest: subprocess.Popen[bytes]) -> None:
    """Wait for the kernel's end if it is ending, and end it if it is not."""
    if guest.poll() is None:
        guest.terminate()
    try:
        guest.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m testbed.kernel.uml [-w FOLDER]... -- COMMAND...`"""
    words = list(sys.argv[1:] if argv is None else argv)
    writable = []
    while words and words[0] == "-w":
        writable.append(words[1])
        words = words[2:]
    return run_in_uml(words[1:] if words[:1] == ["--"] else words, writable=writable)
