"""Building, reading back and taking down; what cannot be had is an error that says so."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from lab_topologies import boxed, chain, link, pair, star

from testbed.errors import (
    KernelError,
    LabError,
    MissingProgram,
    ReadBackError,
    TestbedError,
    TopologyError,
)
from testbed.kernel import sysctl
from testbed.kernel.netlink import ethtool, state
from testbed.lab import Lab
from testbed.lab import build as building
from testbed.lab.defaults import PINNED_SYSCTLS
from testbed.topology.model import Endpoint, Impairments, Interface, Node, Topology
from testbed.topology.planning.plan import plan


def test_both_ends_answer_over_ipv4_ipv6_and_by_name():
    with Lab(pair()) as lab:
        assert 0 < lab["a"].ping(lab["b"]) < 1
        assert 0 < lab["a"].ping("b") < 1
        assert 0 < lab["b"].ping(lab["a"].address6) < 1
        assert lab.build_seconds["total"] > 0


def test_no_answer_and_no_way_are_errors():
    with Lab(pair()) as lab:
        with pytest.raises(LabError, match=r"No ping to 203.0.113.1: Network is unreachable"):
            lab["a"].ping("203.0.113.1")
        free = str(lab["a"].address).rsplit(".", 1)[0] + ".77"
        with pytest.raises(LabError, match=r"No (reply to a )?ping to"):
            lab["a"].ping(free, timeout=0.2)


def test_a_switch_joins_all_its_hosts():
    with Lab(star(5)) as lab:
        for name in ("h1", "h4"):
            assert lab["h0"].ping(name) < 1
        with pytest.raises(LabError, match=r"The node 'switch' has no address"):
            lab["h0"].ping("switch")


def test_a_group_from_yaml(tmp_path):
    source = tmp_path / "group.yaml"
    source.write_text(
        "name: group\n"
        "nodes:\n  switch: {kind: switch}\n  host: {count: 3}\n"
        "links:\n  - endpoints: [switch, host]\n"
    )
    with Lab(source) as lab:
        hosts = [node for node in lab.nodes.values() if node.kind == "host"]
        assert len(hosts) == 3
        assert hosts[0].ping(hosts[2]) < 1


def test_a_chain_of_routers_is_pingable_end_to_end_over_both_families():
    with Lab(chain(6)) as lab:
        assert lab["a"].ping("b") < 2
        assert lab["a"].ping(lab["b"].address6) < 2
        assert lab["r3"].sysctl("net.ipv4.ip_forward") == "1"
        assert lab["a"].sysctl("net.ipv4.ip_forward") == "0"


def test_the_mtu_of_a_link_is_in_force_at_both_ends():
    with Lab(pair(mtu=1280, emulated=True)) as lab:
        for name in ("a", "b"):
            sock = lab[name].socket(kind=socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
            other = lab["b" if name == "a" else "a"].address
            sock.sendto(bytes(1280 - 28), (other, 9))
            with pytest.raises(OSError, match=r"Message too long"):
                sock.sendto(bytes(1280 - 27), (other, 9))


def test_defaults_do_not_depend_on_the_host_and_topology_settings_win():
    with Lab(pair(left={"sysctls": {"net.ipv4.tcp_rmem": "4096 8192 16384"}})) as lab:
        assert lab["b"].sysctl("net.ipv4.tcp_rmem") == "4096 131072 6291456"
        assert lab["a"].sysctl("net.ipv4.tcp_rmem") == "4096 8192 16384"
        for name, value in PINNED_SYSCTLS.items():
            assert lab["b"].sysctl(name) == value, name
        lab["a"].set_sysctl("net.ipv4.tcp_sack", 0)
        assert lab["a"].sysctl("net.ipv4.tcp_sack") == "0"
        assert lab["b"].sysctl("net.ipv4.tcp_sack") == "1"


def test_route_metrics_and_congestion_control_are_in_force(tmp_path):
    source = tmp_path / "metrics.yaml"
    source.write_text(
        "name: metrics\n"
        "nodes:\n"
        "  a: {congestion_control: cubic, routes: [{to: b, rto_min: 1s, initcwnd: 3}]}\n"
        "  b: {congestion_control: reno}\n"
        "links:\n  - endpoints: [a, b]\n"
    )
    with Lab(source) as lab:
        listener = lab["b"].listen()
        client = lab["a"].socket()
        client.connect(listener.getsockname())
        served, _ = listener.accept()
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)[:5] == b"cubic"
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)[:4] == b"reno"
        routes = lab["a"].run(["ip", "route", "get", lab["b"].address]).stdout
        assert "rto_min lock 1s" in routes  # TCP heeds it only where it is locked
        assert "initcwnd 3" in routes


def test_offloads_are_off_or_on_as_asked():
    with Lab(pair()) as off, Lab(pair(offload=True)) as on:
        for lab, wanted in ((off, "off"), (on, "on")):
            told = lab["a"].run(["ethtool", "-k", "eth0"]).stdout if _has_ethtool() else None
            if told is not None:
                assert f"tcp-segmentation-offload: {wanted}" in told
                assert f"tx-checksumming: {wanted}" in told
            found = lab["a"].namespace.call(_offloads)
            assert bool(found) == (wanted == "on")


def _has_ethtool() -> bool:
    return any(Path(folder, "ethtool").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin"))


def _offloads() -> set[str]:
    with state.Netlink() as netlink:
        return ethtool.Offloads(netlink).active(netlink, "eth0")


def test_two_labs_of_one_topology_do_not_meet():
    with Lab(pair()) as one, Lab(pair()) as other:
        assert one["a"].address == other["a"].address
        listener = one["b"].listen(4000)
        stranger = other["a"].socket()
        with pytest.raises(ConnectionRefusedError):
            stranger.connect((other["b"].address, 4000))
        friend = one["a"].socket()
        friend.connect(listener.getsockname())


def test_labs_can_be_built_from_any_thread_at_the_same_time():
    answers = []

    def build() -> None:
        with Lab(star(4)) as lab:
            answers.append(lab["h0"].ping("h3"))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 4


def test_nothing_of_the_host_is_changed():
    def host() -> tuple:
        interfaces = sorted(Path("/sys/class/net").iterdir())
        routes = Path("/proc/net/route").read_text()
        settings = [sysctl.read(name) for name in PINNED_SYSCTLS]
        return interfaces, routes, settings, Path("/proc/self/ns/net").readlink()

    before = host()
    with Lab(boxed()) as lab:
        during = host()
        lab["client"].ping("server")
    assert before == during == host()


def test_an_exception_in_the_block_takes_the_lab_down():
    with pytest.raises(ZeroDivisionError), Lab(boxed(captures=["client"])) as lab:
        node = lab["client"]
        1 / 0  # noqa: B018
    with pytest.raises(LabError, match=r"The lab 'boxed' is closed, not running"):
        node.socket()


def test_every_use_after_the_end_says_that_the_lab_is_closed():
    with Lab(pair(emulated=True)) as lab:
        a, cable = lab["a"], lab.link("a", "b")
        sock = a.socket()
    assert sock.fileno() == -1
    uses = [
        a.socket,
        a.listen,
        lambda: a.ping("b"),
        lambda: a.run(["true"]),
        lambda: a.start(["true"]),
        lambda: a.sysctl("net.ipv4.tcp_sack"),
        lambda: a.set_sysctl("net.ipv4.tcp_sack", 1),
        a.listening_ports,
        lambda: cable.cut(),
        lambda: cable.set(delay=1),
        lambda: cable.counters,
        lambda: a.namespace.call(int),
        lab.check,
    ]
    for use in uses:
        with pytest.raises(LabError, match=r"closed|taken down"):
            use()
    assert "closed" in repr(lab)


def test_a_lab_runs_once():
    lab = Lab(pair())
    with pytest.raises(LabError, match=r"new"):
        lab["a"]
    with lab, pytest.raises(LabError, match=r"A lab runs once, and 'pair' is running"):
        lab.__enter__()
    with pytest.raises(LabError, match=r"A lab runs once, and 'pair' is closed"):
        lab.__enter__()


def test_unknown_nodes_and_links_name_what_there_is():
    with Lab(pair()) as lab:
        with pytest.raises(LabError, match=r"no node 'c'.*a, b"):
            lab["c"]
        with pytest.raises(LabError, match=r"No link: there is no node 'c'"):
            lab.link("a", "c")
        with pytest.raises(LabError, match=r"no link between 'a' and 'a', but a:eth0-b:eth0"):
            lab.link("a", "a")


# What cannot be had


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"net.ipv4.tcp_sakc": "1"}, r"node 'a': There is no sysctl net\.ipv4\.tcp_sakc.*tcp_sack"),
        ({"net.ipv4.tcp_sack": "yes"}, "node 'a': The kernel refused the value 'yes'"),
        ({"net.core.somaxconn": "-7"}, "node 'a': The kernel refused the value '-7'"),
        ({"net.ipv4.tcp_congestion_control": "nosuch"}, "node 'a': "),
    ],
)
def test_a_wrong_sysctl(settings, told):
    with pytest.raises(KernelError, match=told), Lab(pair(left={"sysctls": settings})):
        pass


def test_an_unknown_congestion_control():
    with (
        pytest.raises(KernelError, match=r"node 'a': .*nosuch|node 'a': The kernel refused"),
        Lab(pair(left={"congestion_control": "nosuch"})),
    ):
        pass


def test_tcpdump_is_missed_before_anything_is_built(monkeypatch):
    monkeypatch.setattr("testbed.kernel.processes.process.shutil.which", lambda *_, **__: None)
    with (
        pytest.raises(MissingProgram, match=r"'tcpdump' was not found.*apt-get install tcpdump"),
        Lab(pair(captures=["a"])),
    ):
        pass


def test_a_capture_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TestbedError, match=r"cannot be made: Not a directory"),
        Lab(pair(captures=["a"]), captures=tmp_path / "file" / "below"),
    ):
        pass


def test_the_limit_of_open_files_is_told_before_anything_is_built():
    # In a process of its own: a hard limit cannot be raised again.
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "from testbed.lab import Lab\n"
        "try:\n    Lab(sys.argv[1]).__enter__()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "topologies/docomo.yaml"], capture_output=True, text=True
    )
    assert done.stdout.startswith("LabError This topology needs about"), done.stderr
    assert "ulimit -Hn" in done.stdout


def test_without_privileges_the_error_says_what_is_needed():
    code = (
        "import sys\n"
        "from testbed.kernel.processes.confine import drop_privileges\n"
        "from testbed.lab import Lab\n"
        "drop_privileges()\n"
        "try:\n    Lab(sys.argv[1]).__enter__()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "topologies/docomo.yaml"], capture_output=True, text=True
    )
    assert done.stdout.startswith("PrivilegeError Making a network namespace needs CAP_SYS_ADMIN")
    assert done.stderr == ""


def test_two_nodes_with_one_address_are_refused_in_the_topology():
    twice = Topology(
        name="twice",
        nodes={
            name: Node(name=name, interfaces={"eth0": Interface(addresses=("10.0.0.1/24",))})
            for name in ("a", "b")
        },
        links=(link("a:eth0", "b:eth0"),),
    )
    with pytest.raises(TopologyError):
        Lab(twice)


def test_an_address_that_the_kernel_refuses():
    good = plan(pair())
    a = good.nodes["a"]
    interface = msgspec.structs.replace(a.interfaces[0], addresses=a.interfaces[0].addresses * 2)
    bad = msgspec.structs.replace(a, interfaces=(interface,))
    broken = msgspec.structs.replace(good, nodes={**good.nodes, "a": bad})
    with (
        pytest.raises(KernelError, match=r"node 'a': The kernel refused to give eth0 the address"),
        Lab(broken),
    ):
        pass


# What was set is read back


def _differs(function, change):
    def wrapped(*args, **kwargs):
        return change(function(*args, **kwargs))

    return wrapped


@pytest.mark.parametrize(
    ("module", "name", "change", "told"),
    [
        (state, "addresses", lambda found: set(), "the address .* of eth0 is not there"),
        (
            state,
            "interfaces",
            lambda found: {
                name: msgspec.structs.replace(one, mtu=9) for name, one in found.items()
            },
            "MTU of eth0: asked for 1500, the kernel has 9",
        ),
        (
            state,
            "interfaces",
            lambda found: {
                name: msgspec.structs.replace(one, mac="02:00:00:00:00:99")
                for name, one in found.items()
            },
            "MAC address of eth0: asked for 02:00:00:00:00:01",
        ),
        (state, "routes", lambda found: [], "the route to .* is not there"),
        (
            state,
            "routes",
            lambda found: [
                msgspec.structs.replace(one, metrics=state.Metrics(rto_min=7)) for one in found
            ],
            "metrics of the route to .*: asked for ",
        ),
        (
            building,
            "route_settings",
            lambda found: msgspec.structs.replace(found, congestion_control="bbr"),
            "congestion control of a connection to .*: asked for reno, the kernel has bbr",
        ),
        (ethtool.Offloads, "active", lambda found: {"tso"}, "The offloads tso of eth0 stay on"),
    ],
)
def test_a_difference_is_an_error(monkeypatch, module, name, change, told):
    monkeypatch.setattr(module, name, _differs(getattr(module, name), change))
    with (
        pytest.raises(ReadBackError, match=f"node 'a': (The )?{told.removeprefix('The ')}"),
        Lab(pair(left={"congestion_control": "reno"})),
    ):
        pass


def test_impairments_that_differ_are_an_error(monkeypatch):
    from testbed.emulator.userspace.client import UserspaceEmulator

    monkeypatch.setattr(
        UserspaceEmulator, "read_back", lambda *_: (Impairments(), Impairments(loss=0.5))
    )
    with (
        pytest.raises(ReadBackError, match=r"a:eth0-b:eth0, forward: delay was to be 0.02"),
        Lab(pair(forward=Impairments(delay=0.02))),
    ):
        pass


def test_a_carrier_that_does_not_come_is_an_error(monkeypatch):
    monkeypatch.setattr(state, "CARRIER_SECONDS", 0.2)
    monkeypatch.setattr(state, "_carrying", lambda _: False)
    with pytest.raises(ReadBackError, match=r"carries no frames"), Lab(pair()):
        pass


def test_captures_are_of_interfaces_that_exist():
    topology = msgspec.structs.replace(pair(), captures=(Endpoint("a", "eth7"),))
    with pytest.raises(TopologyError):
        Lab(topology)
