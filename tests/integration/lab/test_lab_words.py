"""What a lab says when it is asked for something that it does not have."""

from __future__ import annotations

import pytest

from testbed import Lab, loads
from testbed.errors import CaptureError, KernelError, LabError
from testbed.trace import read_trace

PAIR = "name: t\nnodes: {client: {}, server: {}}\nlinks: [{endpoints: [client, server]}]"
TWICE = PAIR.replace("links: [", "links: [{endpoints: [client, server]}, ")
CAPTURED = PAIR + "\ncaptures: [client]"


@pytest.fixture(scope="module")
def lab():
    with Lab(loads(TWICE)) as running:
        yield running


def test_a_ping_to_a_name_that_is_none(lab):
    with pytest.raises(LabError, match=r"No ping: there is no node 'serverr'; did you mean 'serv"):
        lab["client"].ping("serverr")
    assert lab["client"].ping(lab["server"].address6) < 30
    assert lab["client"].ping(lab["server"]) < 30


def test_a_link_is_named_by_its_interfaces_where_there_are_several(lab):
    assert lab.link("client:eth1", "server:eth1") is lab.links[1]
    assert lab.link("server:eth0", "client") is lab.links[0]
    with pytest.raises(LabError, match="2 links between 'client' and 'server'"):
        lab.link("client", "server")
    with pytest.raises(LabError, match="no link between 'client:eth0' and 'server:eth1'"):
        lab.link("client:eth0", "server:eth1")


@pytest.mark.parametrize(
    "where", ["congestion_control: no_such", "routes: [{to: server, congestion_control: no_such}]"]
)
def test_a_congestion_control_that_the_kernel_does_not_have_is_refused_at_once(where):
    lab = Lab(loads(PAIR.replace("client: {}", f"client: {{{where}}}")))
    told = "node 'client': this kernel has no congestion control 'no_such'. It has .*reno"
    with pytest.raises(KernelError, match=told):
        lab.__enter__()
    assert lab.nodes == {}


def test_ipv6_can_be_switched_off_on_a_node():
    off = "client: {sysctls: {net.ipv6.conf.all.disable_ipv6: 1}}"
    with Lab(loads(PAIR.replace("client: {}", off))) as lab:
        assert lab["client"].addresses(6) == ()
        assert lab["client"].ping("server") < 30
        assert "inet6" not in lab["client"].run(["ip", "address"]).stdout


def test_two_labs_do_not_write_to_one_directory(tmp_path):
    with Lab(loads(CAPTURED), captures=tmp_path) as first:
        with pytest.raises(CaptureError, match=r"Another lab writes to .*client-eth0\.pcap"):
            Lab(loads(CAPTURED), captures=tmp_path).__enter__()
        first["client"].ping("server")
    assert read_trace(first.captures["client:eth0"].path).packets > 0
    with Lab(loads(CAPTURED), captures=tmp_path):  # afterwards it is free
        pass


def test_a_directory_that_nothing_would_be_written_to_is_refused(tmp_path):
    with pytest.raises(LabError, match=r"Nothing would be written to .*no `captures:`"):
        Lab(loads(PAIR), captures=tmp_path)


def test_a_capture_can_be_read_while_it_goes_on():
    with Lab(loads(CAPTURED)) as lab:
        capture = lab.captures["client:eth0"]
        seen = 0
        for _ in range(3):
            lab["client"].ping("server")
            now = read_trace(capture.flush()).packets
            assert now >= seen + 2
            seen = now
        assert capture.running
