from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import KernelError, PrivilegeError, ReadBackError
from testbed.kernel import sysctl


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder in place of /proc/sys with one sysctl in it."""
    folder = tmp_path / "net/ipv4"
    folder.mkdir(parents=True)
    (folder / "tcp_sack").write_text("1\n")
    (folder / "tcp_rmem").write_text("4096\t131072\t6291456\n")
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    sysctl.path_of.cache_clear()
    yield folder
    sysctl.path_of.cache_clear()


def test_a_dot_inside_an_interface_name_is_written_as_a_slash():
    assert sysctl.path_of("net.ipv4.conf.eth0/1.rp_filter") == Path(
        "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"
    )


def test_fields_are_separated_by_single_spaces(tree):
    assert sysctl.read("net.ipv4.tcp_rmem") == "4096 131072 6291456"


def test_what_is_there_already_is_not_missing(tree):
    wanted = {"net.ipv4.tcp_sack": "0", "net.ipv4.tcp_rmem": "4096 131072 6291456"}
    assert sysctl.missing(wanted) == {"net.ipv4.tcp_sack": "0"}


@pytest.mark.parametrize("operation", [sysctl.read, lambda name: sysctl.write({name: "1"})])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("net.ipv4.tcp_sakc", r"did you mean 'tcp_sack'\?"),
        ("net.ipv4.tcp_sack.more", "There is no sysctl"),
        ("net.ipv9.nothing", "There is no sysctl"),
        ("net.ipv4", "sysctl net.ipv4"),
    ],
)
def test_an_unknown_name(tree, operation, name, hint):
    with pytest.raises(KernelError, match=hint):
        operation(name)


def test_a_value_that_reads_differently_is_an_error(tree):
    # A plain file keeps the longer old text behind the shorter new one.
    with pytest.raises(ReadBackError, match="was set to '8192' but reads '8192"):
        sysctl.write({"net.ipv4.tcp_rmem": "8192"})


def test_a_sysctl_that_may_not_be_written(tree, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sysctl.os, "open", refuse)
    with pytest.raises(PrivilegeError, match="may not be written here"):
        sysctl.write({"net.ipv4.tcp_sack": "1"})
