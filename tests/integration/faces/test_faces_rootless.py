"""Labs of an ordinary user, in a user namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faces_ordinary_user import NOBODY, OrdinaryUser

from testbed.kernel.devices.steering import DEFAULT_MASK
from testbed.trace import read_trace

_TOPOLOGY = (Path(__file__).parents[3] / "topologies" / "docomo.yaml").read_text()

_EXCHANGE = """
import json, os, sys
from testbed.kernel.processes import userns
userns.enter_if_needed()
from testbed import Lab, loads, TestbedError
from testbed.kernel.tcp_info import congestion_control
try:
    with Lab(loads(sys.stdin.read() or sys.argv[1]), captures="pcaps") as lab:
        listener = lab["server"].listen(80)
        client = lab["gateway"].socket()
        client.connect((lab["server"].address, 80))
        server, _ = listener.accept()
        client.sendall(b"?" * 1000)
        received = len(server.recv(1000, 0x100))
        print(json.dumps({
            "received": received,
            "uid": os.getuid(),
            "in node": lab["gateway"].run(["id", "-u"]).stdout.strip(),
            "cookies": lab["server"].sysctl("net.ipv4.tcp_syncookies"),
            "congestion control": congestion_control(client),
            "seen by router": lab["router"].counters().sent["inside"].packets,
        }))
except TestbedError as error:
    sys.exit(str(error))
"""


def _exchange(user: OrdinaryUser, topology: str = _TOPOLOGY, **options: Any) -> Any:
    return user.run("-c", _EXCHANGE, topology, **options)


def test_docomo_runs_and_is_captured(ordinary_user: OrdinaryUser) -> None:
    done = _exchange(ordinary_user)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["received"] == 1000
    assert told["uid"] == NOBODY and told["in node"] == str(NOBODY)
    assert told["cookies"] == "0"
    assert told["congestion control"] == "reno"
    assert told["seen by router"] > 0
    for name in ("gateway-eth0", "server-eth0"):
        path = ordinary_user.home / "pcaps" / f"{name}.pcap"
        assert path.stat().st_uid == NOBODY
        assert len(read_trace(path).connections) == 1


def test_plain_links_need_no_tun_device(ordinary_user: OrdinaryUser) -> None:
    plain = """
name: plain
nodes: {gateway: {congestion_control: reno}, router: {kind: router}, server: {}}
links:
  - endpoints: [gateway, router]
  - endpoints: [router, server]
captures: [gateway]
"""
    code = _EXCHANGE.replace('lab["router"].counters().sent["inside"].packets', "1")
    done = ordinary_user.run("-c", code, plain, tun_mode="0600")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 1000


def test_without_a_usable_tun_device_the_way_out_is_told(ordinary_user: OrdinaryUser) -> None:
    done = _exchange(ordinary_user, tun_mode="0600")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "chmod 0666 /dev/net/tun" in done.stderr
    assert "`--clock virtual`" in done.stderr and "`--kernel uml`" in done.stderr


def test_doctor_tells_rootless_and_the_tun_device(ordinary_user: OrdinaryUser) -> None:
    for mode, state in (("0666", "ok"), ("0600", "missing")):
        done = ordinary_user.run("-m", "testbed", "doctor", "--json", tun_mode=mode)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        findings = {one["what"]: one for one in told["findings"]}
        assert told["labs"] is True
        assert "in a user namespace" in findings["privileges"]["found"]
        assert findings["/dev/net/tun"]["state"] == state
    done = ordinary_user.run("-m", "testbed", "doctor", tun_mode="0600")
    assert "`--clock virtual`" in " ".join(done.stdout.partition("Labs can be built")[2].split())
    assert done.stdout.count("chmod") == 1


def test_root_of_a_bare_user_namespace_can_capture(ordinary_user: OrdinaryUser) -> None:
    """`unshare -r`: user 0 with all capabilities, and a tcpdump that insists on setgroups(2)."""
    done = _exchange(ordinary_user, prefix=["unshare", "--user", "--map-root-user"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] == 1000


def test_packets_can_be_steered(ordinary_user: OrdinaryUser) -> None:
    if not Path(DEFAULT_MASK).exists() or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("without privileges it takes Linux 6.3, and another processor")
    done = ordinary_user.run("-m", "testbed", "doctor", "--json")
    findings = {one["what"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["packet steering"]["found"] == "available"


def _where_namespaces_are_forbidden(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command without capabilities, in a user namespace whose own limit of more is 0."""
    forbid = (
        "echo 0 > /proc/sys/user/max_user_namespaces && "
        'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
    )
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "bash", "-c", forbid, "bash", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def _namespaces_can_be_forbidden() -> None:
    if _where_namespaces_are_forbidden("true").returncode != 0:
        pytest.skip("no user namespace can be made here to forbid more of them in")


@pytest.mark.usefixtures("_namespaces_can_be_forbidden")
def test_doctor_names_the_setting_that_forbids() -> None:
    done = _where_namespaces_are_forbidden(sys.executable, "-m", "testbed", "doctor", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    (privileges,) = (one for one in told["findings"] if one["what"] == "privileges")
    assert told["labs"] is False
    assert privileges["state"] == "missing"
    assert "user.max_user_namespaces is 0" in privileges["meaning"]
    assert "sysctl -w user.max_user_namespaces=" in privileges["cure"]


@pytest.mark.usefixtures("_namespaces_can_be_forbidden")
def test_entering_names_the_setting_that_forbids() -> None:
    code = (
        "from testbed.errors import PrivilegeError\n"
        "from testbed.kernel.processes import userns\n"
        "try: userns.enter_if_needed()\n"
        "except PrivilegeError as error: print(error)\n"
    )
    done = _where_namespaces_are_forbidden(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "user.max_user_namespaces is 0" in done.stdout
    assert "CAP_SYS_ADMIN" in done.stdout


def test_privileged_processes_stay_where_they_are() -> None:
    if os.geteuid() != 0:
        pytest.skip("tells about root")
    code = (
        "import os\n"
        "from testbed.kernel.processes import userns\n"
        "before = os.readlink('/proc/self/ns/user')\n"
        "userns.enter_if_needed()\n"
        "print(before == os.readlink('/proc/self/ns/user'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_scenario_runs_from_the_command_line(ordinary_user: OrdinaryUser) -> None:
    if ordinary_user.copied:
        pytest.skip("the copy of testbed that an ordinary user can reach has no matplotlib")
    path = ordinary_user.home / "docomo.yaml"
    path.write_text(_TOPOLOGY)
    one_cell = ["-p", "proxy=off", "-p", "handshake=data", "--repeat", "1"]
    words = ["testbed", "run", path.name, "--clock=real", *one_cell, "--out", "o", "--json"]
    done = ordinary_user.run("-m", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scenario"] == "docomo"
    assert (ordinary_user.home / "o" / "result.json").stat().st_uid == NOBODY
