"""Rulesets of the kernel's packet filter in nodes: loaded, effective, and their errors."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from testbed.errors import KernelError, MissingProgram
from testbed.kernel.processes.userns import needed
from testbed.lab import Lab
from testbed.topology.yaml.load import load

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")

TEXT = """
name: filtered
nodes:
  client: {}
  router: {kind: router, kernel: {nftables: rules.nft}}
  server: {}
links:
  - endpoints: [client:eth0, router:outside]
  - endpoints: [router:inside, server:eth0]
"""
REFUSING = """
table inet filter {
	chain forwarded {
		type filter hook forward priority filter;
		iifname "outside" tcp dport 4242 reject with tcp reset
	}
}
"""


def filtered(folder, rules):
    (folder / "rules.nft").write_text(rules)
    (folder / "filtered.yaml").write_text(TEXT)
    return load(folder / "filtered.yaml")


def host_ruleset() -> str:
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    assert nft is not None
    return subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("family", [4, 6])
def test_a_ruleset_decides_what_a_router_forwards(tmp_path, family):
    before = host_ruleset()
    with Lab(filtered(tmp_path, REFUSING)) as lab:
        server = lab["server"]
        address = server.address if family == 4 else server.address6
        for port, refused in ((4242, True), (4243, False)):
            with (
                server.listen(address=address, port=port) as listener,
                lab["client"].socket(listener.family) as sock,
            ):
                sock.settimeout(10.0)
                if refused:
                    with pytest.raises(ConnectionRefusedError):
                        sock.connect((address, port))
                else:
                    sock.connect((address, port))
        assert "4242" in lab["router"].run(["nft", "list", "ruleset"]).stdout
        assert "4242" not in lab["client"].run(["nft", "list", "ruleset"]).stdout
        assert host_ruleset() == before


def test_a_ruleset_that_nft_refuses_is_told_in_its_words(tmp_path):
    rules = "table inet filter {\n\tchain nonsense {\n\t\tfrobnicate\n\t}\n}\n"
    with pytest.raises(KernelError) as caught, Lab(filtered(tmp_path, rules)):
        pass
    assert "'router'" in str(caught.value)
    assert f"{tmp_path}/rules.nft:3:" in str(caught.value)
    assert "syntax error" in str(caught.value) and "frobnicate" in str(caught.value)


def test_without_nft_its_package_is_named(tmp_path, monkeypatch):
    topology = filtered(tmp_path, REFUSING)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "nft" else name)
    with (
        pytest.raises(MissingProgram, match=r"'nft' was not found.*apt-get install nftables"),
        Lab(topology),
    ):
        pass
