"""Another kernel for one command: User-Mode Linux, an ordinary program that needs no privileges.

The command finds the same files as outside, this project and its interpreter among them; what it
writes is forgotten, except in the folders that are named as writable. There is one processor, and
no network.
Source: Documentation/virt/uml/user_mode_linux_howto_v2.rst.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec

from testbed.errors import KernelError
from testbed.kernel.clock import USUAL_SEED, ClockName
from testbed.kernel.uml import init as uml_init
from testbed.kernel.uml.kernels import Bootable, choose_kernel, debian_kernel

#: Of a kernel; only what it uses is taken from this machine.
USUAL_MEMORY: Final = "1G"

#: In the environment of a command that runs inside.
MARK = "TESTBED_KERNEL"

_PR_SET_PDEATHSIG = 1
_GRACE_SECONDS = 3.0
_LAST_WORDS = 15  # lines of the kernel's console
#: While a pipe of the guest's is full its clock runs on, and that by the speed of this machine.
_PIPE_BYTES = 1 << 20
_PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
#: Where programs, modules and the user's own files are: what a command cannot do without.
_PLACES = ("PATH", "HOME", "PYTHONPATH")
_STACKS_SECONDS = 10.0
_KICK_SECONDS = 0.5
# "Ctrl-Alt-Del" in the words of the kernel's management console: magic number, version, length,
# text (arch/um/drivers/mconsole.h). It reaches init whatever keeps the processor busy.
_ASK_FOR_STACKS = struct.pack("=III512s", 0xCAFEBABE, 2, 3, b"cad")
_PACKAGE = Path(__file__).parents[2]
_libc = ctypes.CDLL(None, use_errno=True)


class Remains(msgspec.Struct, frozen=True):
    """What a command has left behind in a kernel.

    lost: files, a hundred at most, that it wrote where nothing is written through; caches apart.
    unroutable: how often it asked for something outside, beside all labs.
    """

    lost: list[str] = []
    unroutable: int = 0


class Ending(msgspec.Struct):
    """What is known of a run: whether the command was reached, its status at the end, what it has
    left, and whether it was ended because nothing was heard of it for too long."""

    ready: bool = False
    status: int | None = None
    remains: Remains = Remains()
    stuck: bool = False

    def hear(self, message: str) -> None:
        word, _, rest = message.partition(" ")
        if word == "ready":
            self.ready = True
        elif word == "remains":
            self.remains = msgspec.json.decode(rest, type=Remains)
        elif word == "status":
            self.status = int(rest)


def inside() -> bool:
    """Whether this very process runs inside User-Mode Linux by our doing."""
    return os.environ.get(MARK) == "uml"


def run_in_uml(
    argv: Sequence[str],
    *,
    kernel: Bootable | None = None,
    writable: Iterable[str | os.PathLike[str]] = (),
    environment: Mapping[str, str] | None = None,
    memory: str = USUAL_MEMORY,
    cpu: int | None = None,
    patience: float | None = None,
    afterwards: Callable[[Remains], None] | None = None,
) -> int:
    """Run a command inside User-Mode Linux as root there, and return its exit status.

    Its output comes as it is written. It starts in the current folder, with this process's
    environment unless another one is given, and without input. A command ended by signal N gives
    128 + N, one that does not exist 127. An interrupt (Ctrl-C) ends the kernel with everything in
    it.

    kernel: by default Debian's. writable: folders that the command writes through to; they must
    be there. cpu: the processor of this machine that everything runs on, by default the one that
    the caller happens to be on. patience: after so many seconds (of this machine's clock) without
    output the command is made to show its stacks, if it can, and ended. afterwards: is told what
    the command has left, whatever its status.

    Raises `MissingProgram` where Debian's kernel is wanted and not installed, `KernelError` with
    the kernel's last words when it ends before the command does, and when patience has run out.
    """
    kernel = kernel or debian_kernel()
    if kernel.exact:
        # Compiling inside would show in the packets, and be done in vain by every process there.
        compileall.compile_dir(_PACKAGE, quiet=2)
    variables = dict(os.environ if environment is None else environment)
    terminal = os.get_terminal_size(1) if os.isatty(1) and os.isatty(2) else None
    spec = {
        "argv": list(argv),
        "folder": str(Path.cwd()),
        "environment": {**variables, **kernel.environment, MARK: "uml"},
        "modules": [str(path) for path in kernel.modules],
        "writable": [str(Path(folder).resolve(strict=True)) for folder in writable],
        "terminal": None if terminal is None else [terminal.lines, terminal.columns],
        "exact": kernel.exact,
    }
    with _workshop() as workshop, tempfile.TemporaryFile() as console:
        (workshop / "spec").write_text(json.dumps(spec))
        # Links: words of the kernel's command line must not have spaces in them.
        (workshop / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
        (workshop / "init").symlink_to(uml_init.__file__)
        processor = _libc.sched_getcpu() if cpu is None else cpu
        words = [str(kernel.program), f"mem={memory}", *kernel.words]
        ending = _run(words, workshop, console.fileno(), processor, patience)
        if ending.stuck:
            raise KernelError(
                f"The command was ended: nothing was heard of it for {patience:g} s of real time. "
                "What it was doing is shown above, if it could still tell."
            )
        if ending.status is None:
            console.seek(0)
            lines = console.read().decode(errors="replace").splitlines()
            stage = "before the command ended" if ending.ready else "before it was up"
            told = "\n".join(lines[-_LAST_WORDS:])
            raise KernelError(f"User-Mode Linux ended {stage}. Its console said:\n{told}")
    if afterwards is not None:
        afterwards(ending.remains)
    return ending.status


@contextlib.contextmanager
def _workshop() -> Iterator[Path]:
    """A folder for the start; gone as soon as the kernel is up, and at the end in any case."""
    parent = os.environ.get("TMPDIR") or tempfile.gettempdir()
    plain = not set(parent) & set(" \t\n\"'=,")
    folder = Path(tempfile.mkdtemp(prefix="testbed-uml-", dir=parent if plain else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    kernel: Sequence[str], workshop: Path, console: int, cpu: int, patience: float | None
) -> Ending:
    """Boot, pass on what comes out, and return how it ended."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    for _, write in pipes:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    lines = [f"con{number}=null,fd:{write}" for number, (_, write) in enumerate(pipes, 1)]

    # The kernel holds a descriptor for every file that is open or cached inside (hostfs).
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)

    def settle() -> None:
        _die_with_parent()
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        # The kernel and its processes hand over to each other all the time: across processors
        # that takes four times as long.
        os.sched_setaffinity(0, {cpu})

    try:
        guest = subprocess.Popen(
            [
                *(*kernel, f"uml_dir={workshop}/", "umid=kernel", "quiet"),
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
            preexec_fn=settle,
        )
    finally:
        for _, write in pipes:
            os.close(write)
    previous = {number: signal.signal(number, _interrupt) for number in _ENDING_SIGNALS}
    try:
        return _pass_on([read for read, _ in pipes], workshop, guest.pid, patience)
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


def _pass_on(sources: Sequence[int], workshop: Path, guest: int, patience: float | None) -> Ending:
    """Copy output and errors to ours until all ends are closed; take note of the messages."""
    ending = Ending()
    heard = b""
    with (
        selectors.DefaultSelector() as selector,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console,
    ):
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            events = selector.select(patience)
            if not events:
                ending.stuck = True
                if ending.ready:
                    _show_stacks(selector, console, guest)
                break
            for key, _ in events:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                elif key.fd == sources[2]:
                    *messages, heard = (heard + data).split(b"\n")
                    for message in messages:
                        ending.hear(message.decode())
                    if ending.ready and workshop.exists():
                        console.connect(str(workshop / "kernel" / "mconsole"))
                        shutil.rmtree(workshop, ignore_errors=True)
                else:
                    _write(1 if key.fd == sources[0] else 2, data)
    return ending


def _show_stacks(selector: selectors.BaseSelector, console: socket.socket, guest: int) -> None:
    """Have the command end and say where it was; return when it has, or will not."""
    console.send(_ASK_FOR_STACKS)
    deadline = time.monotonic() + _STACKS_SECONDS
    while selector.get_map() and time.monotonic() < deadline:
        # A process that never calls the kernel is interrupted by this signal only.
        for child in Path(f"/proc/{guest}/task/{guest}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGALRM)
        for key, _ in selector.select(_KICK_SECONDS):
            data = os.read(key.fd, 1 << 16)
            if not data:
                selector.unregister(key.fd)
            _write(2, data)


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


def plain_environment(wanted: Iterable[str] = (), *, places: bool = True) -> dict[str, str]:
    """The same for everybody, so that what happens does not depend on the user's settings.

    wanted: variables besides, each as `NAME` of this process or `NAME=VALUE`. places: whether the
    user's own PATH and HOME are told, too; PYTHONPATH always is, and TERM to a terminal. Raises
    `KernelError` for a variable that is not set.
    """
    own = _PLACES if places else ("PYTHONPATH",)
    names = [*own, "TERM"] if os.isatty(1) else own
    found = {**_PLAIN, **{name: os.environ[name] for name in names if name in os.environ}}
    for word in wanted:
        name, sign, value = word.partition("=")
        if not sign and name not in os.environ:
            raise KernelError(
                f"There is no variable '{name}' in the environment. Set it, or give its value: "
                f"{name}=VALUE."
            )
        found[name] = value if sign else os.environ[name]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command inside User-Mode Linux."""
    parser = argparse.ArgumentParser(prog="python -m testbed.kernel.uml", description=main.__doc__)
    parser.add_argument("-w", action="append", default=[], metavar="FOLDER", help="write through")
    parser.add_argument("--kernel", metavar="VERSION", help="a kernel of `testbed kernel build`")
    parser.add_argument("--clock", choices=get_args(ClockName), default="real")
    parser.add_argument(
        "--seed",
        type=int,
        help=f"of everything by the virtual clock ({USUAL_SEED} by default), else of the links",
    )
    parser.add_argument("--patience", type=float, metavar="S", help="end it after silence")
    parser.add_argument("--cpu", type=int, metavar="N", help="the processor that it runs on")
    parser.add_argument("--memory", default=USUAL_MEMORY, help="of that kernel, such as 4G")
    parser.add_argument("--plain", action="store_true", help="the same environment for everybody")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(argv)
    kernel = choose_kernel(given.kernel, given.clock, given.seed)
    return run_in_uml(
        given.command,
        kernel=kernel,
        writable=given.w,
        environment=plain_environment(places=False) if given.plain else None,
        memory=given.memory,
        cpu=given.cpu,
        patience=given.patience,
    )
