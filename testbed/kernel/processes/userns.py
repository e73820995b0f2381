"""Rootless: the user namespace in which an ordinary user may build labs.

Inside, the user is who they were outside, with all capabilities over namespaces made there and
none over anything of the host's (user_namespaces(7)). The identity is kept, rather than mapped
to user 0, because programs started by user 0 try to drop privileges (tcpdump does), which takes
setgroups(2), and a user namespace made without privileges denies that for good.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from testbed.errors import PrivilegeError
from testbed.kernel.processes import capabilities
from testbed.kernel.syscalls import CLONE_NEWUSER, unshare

BY_HAND = "unshare --user --map-current-user --keep-caps"
"""The command (util-linux) that starts another one the way `enter` leaves this process."""

ANOTHER_KERNEL: Final = (
    "`--clock virtual` (pytest: `--testbed-clock=virtual`) and `--kernel uml` need neither root "
    "nor anything of this kernel"
)
"""The way out of whatever this kernel denies to an ordinary user; a sentence without its stop."""

# (setting, value that forbids, value that permits): Debian's and Arch's own switch, the kernel's
# limits, Ubuntu's restriction. What a kernel does not have does not forbid.
_SETTINGS = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
    ("user.max_net_namespaces", "0", "10000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)


def needed() -> bool:
    """Whether this process lacks privileges that labs need."""
    return bool(capabilities.missing())


def enter() -> None:
    """Move this process into a user namespace of its own; programs it starts follow.

    The process must have one thread. Nothing of the host's is changed. Raises `PrivilegeError`
    that names the obstacle; the process is of no use for labs then.
    """
    lacking = ", ".join(capabilities.missing())
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise PrivilegeError(
            f"This process lacks the privileges for labs ({lacking}), and having {threads} "
            "threads it cannot move into a user namespace any more. Start it in one: "
            f"{BY_HAND} COMMAND"
        )
    uid, gid = os.getuid(), os.getgid()
    try:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        capabilities.keep_across_exec()
    except OSError as error:
        raise PrivilegeError(
            f"Labs need privileges that this process does not have ({lacking}), and it cannot "
            f"get them in a user namespace either: {_reason(error)} {ANOTHER_KERNEL}."
        ) from None


def enter_if_needed() -> None:
    """See `needed` and `enter`."""
    if needed():
        enter()


def forbidding_settings(root: Path = Path("/proc/sys")) -> dict[str, tuple[str, str]]:
    """The settings under `root` that keep ordinary users from labs: (value found, value to set)."""
    found = {}
    for name, forbidding, permitting in _SETTINGS:
        path = root / name.replace(".", "/")
        value = path.read_text().strip() if path.exists() else None
        if value == forbidding:
            found[name] = value, permitting
    return found


def cure(settings: dict[str, tuple[str, str]]) -> str:
    """The command that lifts what `forbidding_settings` found."""
    return "sudo sysctl -w " + " ".join(
        f"{name}={permitting}" for name, (_, permitting) in settings.items()
    )


def _reason(error: OSError) -> str:
    settings = forbidding_settings()
    if settings:
        values = " and ".join(f"{name} is {value}" for name, (value, _) in settings.items())
        return f"{values}. Allow it with `{cure(settings)}`, or run as root."
    if error.errno == errno.ENOSPC:
        return (
            "the limit user.max_user_namespaces (here or in a surrounding namespace) is reached. "
            "Raise it with sysctl, or run as root."
        )
    return (
        f"{os.strerror(error.errno or 0)}. No sysctl forbids it, so it is a security policy "
        "(seccomp of a container, an LSM, a chroot) that does. Run as root, or let the container "
        "have CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW."
    )
