"""Which settings forbid user namespaces, and what is said about them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from testbed.errors import PrivilegeError
from testbed.kernel.processes import capabilities, userns


@pytest.mark.parametrize(
    ("name", "forbids", "permits"),
    [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "31231"),
        ("user.max_net_namespaces", "0", "100"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_a_setting_forbids_by_its_value_only(
    tmp_path: Path, name: str, forbids: str, permits: str
) -> None:
    path = tmp_path / name.replace(".", "/")
    path.parent.mkdir()
    path.write_text(f"{permits}\n")
    assert userns.forbidding_settings(tmp_path) == {}
    path.write_text(f"{forbids}\n")
    found = userns.forbidding_settings(tmp_path)
    assert found[name][0] == forbids
    assert userns.cure(found).startswith(f"sudo sysctl -w {name}=")


def test_settings_that_the_kernel_does_not_have_forbid_nothing(tmp_path: Path) -> None:
    assert userns.forbidding_settings(tmp_path) == {}


def test_a_process_with_threads_is_told_how_to_be_started() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    before = Path("/proc/self/ns/user").readlink()
    try:
        with pytest.raises(PrivilegeError, match=r"threads.*unshare --user --map-current-user"):
            userns.enter()
    finally:
        release.set()
        thread.join()
    assert Path("/proc/self/ns/user").readlink() == before


def test_capabilities_are_read_as_the_kernel_tells_them() -> None:
    status = Path("/proc/self/status").read_text()
    (mask,) = (int(line[7:], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    assert sum(1 << number for number in capabilities.effective()) == mask
    missing = {name for name, number in capabilities.NEEDED.items() if not mask >> number & 1}
    assert set(capabilities.missing()) == missing
