"""Namespaces, netlink, TUN/TAP and programs, without a lab."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from testbed.errors import KernelError, LabError, MissingProgram
from testbed.kernel import sysctl
from testbed.kernel.devices import tun
from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.netlink import rtnetlink, state
from testbed.kernel.netlink.socket import Netlink
from testbed.kernel.processes.group import ProcessGroup
from testbed.kernel.processes.process import await_readable
from testbed.kernel.tcp_info import route_settings


@pytest.fixture
def thread():
    made = NamespaceThread()
    yield made
    made.close()


@pytest.fixture
def namespace(thread):
    made = thread.create_namespace()
    yield made
    made.close()


def here() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_the_caller_never_leaves_its_namespace(namespace):
    before = here()
    inside = namespace.call(here)
    assert here() == before != inside
    assert namespace.call(here) == inside


def test_a_socket_stays_in_the_namespace_it_was_made_in(namespace):
    with namespace.call(socket.socket) as sock, pytest.raises(OSError, match="unreachable"):
        sock.connect(("192.0.2.1", 80))


def test_calls_from_many_threads_do_not_mix(thread):
    namespaces = [thread.create_namespace() for _ in range(4)]
    wanted = [one.call(here) for one in namespaces]
    mixed = []

    def look(place: int) -> None:
        mixed.extend(place for _ in range(50) if namespaces[place].call(here) != wanted[place])

    threads = [threading.Thread(target=look, args=(place,)) for place in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for one in namespaces:
        one.close()
    assert mixed == []
    assert len(set(wanted)) == 4


def test_an_exception_inside_comes_out_and_the_thread_works_on(namespace):
    with pytest.raises(ZeroDivisionError):
        namespace.call(lambda: 1 / 0)
    assert namespace.call(int) == 0


def test_after_the_end(thread):
    namespace = thread.create_namespace()
    namespace.close()
    with pytest.raises(LabError, match="closed"):
        namespace.call(int)
    thread.close()
    with pytest.raises(LabError, match="taken down"):
        thread.create_namespace()


def test_a_batch_names_the_request_that_was_refused(namespace):
    with namespace.call(Netlink) as netlink:
        good = rtnetlink.set_link(1, "lo", up=True)
        bad = rtnetlink.add_address(99, "eth9", "10.0.0.1/24")
        with pytest.raises(KernelError, match=r"give eth9 the address 10\.0\.0\.1/24: No such dev"):
            netlink.execute([good, bad, good])
        # What was refused does not disturb what comes after it.
        netlink.execute([good])
        assert state.interfaces(netlink)["lo"].up


def test_long_batches_are_carried_out_completely(namespace):
    wanted = [f"10.{high}.{low}.1/24" for high in range(4) for low in range(200)]
    with namespace.call(Netlink) as netlink:
        netlink.execute([rtnetlink.add_address(1, "lo", address) for address in wanted])
        found = {address for _, address in state.addresses(netlink)}
    assert set(wanted) <= found


def test_the_kernels_own_explanation_is_told(namespace):
    with namespace.call(Netlink) as netlink:
        route = rtnetlink.add_route("10.0.0.0/8", 1, via="192.0.2.1")
        with pytest.raises(KernelError, match=r"route to 10\.0\.0\.0/8 via 192\.0\.2\.1: .*\(.+\)"):
            netlink.execute([route])


def test_route_metrics_reach_new_connections(namespace):
    with namespace.call(Netlink) as netlink:
        metrics = rtnetlink.Metrics(initcwnd=7, cc_algo="reno", advmss=1000)
        netlink.execute(
            [
                rtnetlink.set_link(1, "lo", up=True),
                rtnetlink.add_address(1, "lo", "10.0.0.1/24"),
                rtnetlink.add_route("10.9.0.0/16", 1, metrics=metrics),
            ]
        )
        found = {route.destination: route for route in state.routes(netlink, socket.AF_INET)}
    assert found["10.9.0.0/16"].metrics == metrics
    settings = namespace.call(route_settings, "10.9.1.1")
    assert settings.congestion_control == "reno"
    assert settings.initcwnd == 7
    with pytest.raises(KernelError, match=r"203\.0\.113\.1 cannot be read back: .*no route"):
        namespace.call(route_settings, "203.0.113.1")


def test_a_tap_vanishes_with_its_descriptor(namespace):
    fd = namespace.call(tun.open_tap, "tap0", 7)
    with namespace.call(Netlink) as netlink:
        assert state.interfaces(netlink)["tap0"].index == 7
        with pytest.raises(KernelError, match="make the interface tap0"):
            namespace.call(tun.open_tap, "tap0", 8)
        os.close(fd)
        assert "tap0" not in state.interfaces(netlink)


def test_a_missing_tun_device_says_how_to_get_it(namespace, monkeypatch, tmp_path):
    monkeypatch.setattr(tun, "DEVICE", tmp_path / "tun")
    with pytest.raises(KernelError, match=r"does not exist.*modprobe tun"):
        namespace.call(tun.open_tap, "tap0", 7)


def test_sysctls_are_the_namespaces_own(namespace):
    before = sysctl.read("net.ipv4.tcp_sack")
    namespace.call(sysctl.write, {"net.ipv4.tcp_sack": "0"})
    assert namespace.call(sysctl.read, "net.ipv4.tcp_sack") == "0"
    assert sysctl.read("net.ipv4.tcp_sack") == before


@pytest.fixture
def group(thread):
    made = ProcessGroup(thread)
    yield made
    made.close()


def test_a_program_and_its_children_die_with_the_group(group, namespace):
    process = group.start(namespace, ["sh", "-c", "setsid sleep 100 & echo $!; wait"])
    while not process.stdout_text():
        assert not process.ended_within(0.01)
    pidfds = [os.pidfd_open(pid) for pid in (process.pid, *descendants(process.pid))]
    assert len(pidfds) == 2
    group.close()
    try:
        assert all(await_readable(pidfd, 30) for pidfd in pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    assert process.wait() == -signal.SIGKILL


def descendants(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_group_that_has_ended_starts_nothing_more(group, namespace):
    group.kill()
    with pytest.raises(LabError, match="starts no more programs"):
        group.start(namespace, ["true"])


def test_a_pid_namespace_that_cannot_be_made_is_told(group, namespace, monkeypatch):
    monkeypatch.setattr(
        "testbed.kernel.processes.group.find_program", lambda name, package=None: f"/bin/{name}"
    )
    monkeypatch.setattr("testbed.kernel.processes.group.sys.executable", "/bin/false")
    with pytest.raises(KernelError, match=r"pid namespace .* could not be made"):
        group.start(namespace, ["true"])


def test_unshare_is_missed_with_its_package(group, namespace, monkeypatch):
    monkeypatch.setattr("testbed.kernel.processes.process.shutil.which", lambda *_, **__: None)
    with pytest.raises(MissingProgram, match=r"'unshare' was not found.*util-linux"):
        group.start(namespace, ["/bin/true"])


def test_a_descriptor_beyond_what_select_can_take_is_waited_for():
    read, write = os.pipe()
    try:
        great = os.dup2(read, 1500) if os.sysconf("SC_OPEN_MAX") > 1500 else read
        assert not await_readable(great, 0.01)
        os.write(write, b".")
        assert await_readable(great, 30)
    finally:
        for fd in {read, write, great}:
            os.close(fd)
