"""Compose files as topologies: what means the same is there, what does not is named."""

from __future__ import annotations

import pytest
from importing_bench import Bench

from testbed.topology.importing.compose import compose
from testbed.topology.model import Interface


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    return Bench(compose, tmp_path)


def service(keys: str, rest: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in keys.splitlines())
    return f"name: t\nservices:\n  a:\n    image: i\n{lines}\n{rest}"


@pytest.mark.parametrize(
    ("keys", "setting", "value"),
    [
        ("command: nginx -g 'daemon off;'", "command", ("nginx", "-g", "daemon off;")),
        ("command: [sleep, 60]", "command", ("sleep", "60")),
        ("environment: {A: 1, B: no, C: 0x10}", "environment", {"A": "1", "B": "no", "C": "0x10"}),
        ("environment: [A=1, B=, C=x=y]", "environment", {"A": "1", "B": "", "C": "x=y"}),
        ("cap_add: [NET_ADMIN, CAP_SYS_TIME]", "capabilities", ("NET_ADMIN", "SYS_TIME")),
        ("cpus: '0.5'", "cpus", 0.5),
        ("mem_limit: 512m", "memory", 512 << 20),
        ("mem_limit: 1.5gb", "memory", 3 << 29),
        ("mem_limit: 100000001", "memory", 100000001),
    ],
)
def test_settings_of_a_service(bench, keys, setting, value):
    made = bench(service(keys))
    assert made.topology.nodes["a"].settings == {"image": "i", setting: value}
    assert made.left_out == []


@pytest.mark.parametrize(
    ("keys", "target", "writable"),
    [
        ("volumes: [./site:/www]", "/www", True),
        ("volumes: ['./site:/www:ro']", "/www", False),
        ("volumes: [{type: bind, source: site, target: /www}]", "/www", True),
        ("volumes: [{type: bind, source: ./site, target: /w, read_only: true}]", "/w", False),
    ],
)
def test_mounts_of_files_of_this_machine(bench, keys, target, writable):
    (mount,) = bench(service(keys)).topology.nodes["a"].settings["mounts"]
    assert (mount.source, mount.target) == (str(bench.folder / "site"), target)
    assert mount.writable == writable


@pytest.mark.parametrize(
    ("text", "command", "seconds"),
    [
        ("{test: [CMD, true]}", ("true",), 180),
        ("{test: curl -f localhost}", ("/bin/sh", "-c", "curl -f localhost"), 180),
        ("{test: [CMD-SHELL, 'a | b'], interval: 1m30s, timeout: 500ms, retries: 2}",
         ("/bin/sh", "-c", "a | b"), 181),
        ("{interval: 1s, timeout: 1s, start_period: 10s}", (), 16),
    ],
)  # fmt: skip
def test_a_health_check_has_the_time_after_which_docker_gives_up(bench, text, command, seconds):
    health = bench(service(f"healthcheck: {text}")).topology.nodes["a"].settings["health"]
    assert (health.command, health.deadline) == (command, pytest.approx(seconds))


@pytest.mark.parametrize("text", ["{disable: true}", "{test: [NONE]}"])
def test_no_health_check(bench, text):
    assert bench(service(f"healthcheck: {text}")).topology.nodes["a"].settings == {"image": "i"}


def test_an_image_that_is_built(bench):
    for text in ("build: app", "build: {context: ./app, dockerfile: Dockerfile}"):
        made = bench(f"services: {{a: {{{text}}}}}")
        assert made.topology.nodes["a"].settings == {"build": str(bench.folder / "app")}
    made = bench("services:\n  a: {image: i, build: {context: app, args: {X: 1}}}")
    assert made.topology.nodes["a"].settings == {"build": str(bench.folder / "app")}
    assert made.left_out == [
        "2: services.a.image: left out: the image is the one that `build` makes",
        "2: services.a.build.args: left out: an image is built of its folder alone",
    ]


def test_without_networks_all_are_on_one_switch(bench):
    made = bench("services: {a: {image: i}, b: {image: i}, default-net: {image: i}}").topology
    assert [node.kind for node in made.nodes.values()] == ["container"] * 3 + ["switch"]
    ends = [{str(end).split(":")[0] for end in link.endpoints} for link in made.links]
    assert ends == [{name, "default-net-net"} for name in ("a", "b", "default-net")]
    assert {link.family for link in made.links} == {"ipv4"}


NETWORKS = """
services:
  a:
    image: i
    networks:
      front: {ipv4_address: 172.20.0.5, ipv6_address: 'fd00:5::5'}
      back:
  b: {image: i, networks: [back], network_mode: bridge}
  c: {image: i, network_mode: none}
networks:
  front: {ipam: {config: [{subnet: 172.20.0.0/24}, {subnet: 'fd00:5::/64'}]}}
  back: {driver: bridge, internal: true}
"""


def test_networks_are_switches_with_their_subnets_and_addresses(bench):
    made = bench(NETWORKS)
    links = {str(link.endpoints[0]): link for link in made.topology.links}
    assert list(links) == ["a:eth0", "a:eth1", "b:eth0"]
    assert links["a:eth0"].subnets == ("172.20.0.0/24", "fd00:5::/64")
    assert (links["a:eth0"].family, links["a:eth1"].family) == (None, "ipv4")
    assert [links[end].endpoints[1].node for end in links] == ["front", "back", "back"]
    assert made.topology.nodes["a"].interfaces == {
        "eth0": Interface(addresses=("172.20.0.5/24", "fd00:5::5/64"))
    }
    assert made.left_out == []


@pytest.mark.parametrize("networks", ["[]", "{}", "~"])
def test_a_service_that_names_no_network_is_in_the_default_one(bench, networks):
    (link,) = bench(service(f"networks: {networks}")).topology.links
    assert link.endpoints[1].node == "default-net"


def test_every_service_has_its_address_on_a_common_subnet(bench):
    rest = "networks: {n: {ipam: {config: [{subnet: 10.5.0.0/24}]}}}"
    made = bench(
        "services:\n  a: {image: i, networks: {n: {ipv4_address: 10.5.0.2}}}\n"
        f"  b: {{image: i, networks: {{n: {{ipv4_address: 10.5.0.3}}}}}}\n{rest}"
    )
    assert [made.topology.nodes[name].interfaces["eth0"].addresses for name in "ab"] == [
        ("10.5.0.2/24",),
        ("10.5.0.3/24",),
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("ports: ['80:80']", "ports: left out: no way leads from outside into a lab"),
        ("depends_on: [b]", "depends_on: left out: all nodes of a lab begin together"),
        ("entrypoint: /e", "entrypoint: left out: a container has its image's entry point"),
        ("restart: always", "restart: left out: a container whose command ends is the end"),
        ("deploy: {replicas: 3}", "deploy: left out: each service is one container"),
        ("imgae: j", "imgae: left out: nothing in a topology means it"),
        ("environment: [A]", "environment[0]: left out: no value of 'A' is given"),
        ("environment: {A: }", "environment.A: left out: no value of 'A' is given"),
        ("volumes: ['data:/d']", "volumes[0]: left out: 'data' is a volume of the engine"),
        ("volumes: [/d]", "volumes[0]: left out: it names no file or folder of this machine"),
        ("volumes: ['./gone:/d']", "volumes[0]: left out: there is no "),
        ("volumes: ['~/x:/d']", "volumes[0]: left out: '~/x' is no path"),
        ("volumes: ['./site:/d:cached']", "volumes[0]: the option 'cached' is left out"),
        ("volumes: [{type: tmpfs, target: /d}]", "volumes[0]: left out: only a mount of the type"),
        ("cap_add: [ALL]", "cap_add[0]: left out: a container has the capabilities that are named"),
        ("healthcheck: {test: t, start_interval: 1s}",
         "healthcheck.start_interval: left out: the lab asks by itself"),
        ("sysctls: {kernel.shmmax: 1}", "sysctls.kernel.shmmax: left out: expected a sysctl of"),
        ("command: 'run ${HOW:-fast}'", "command: ${HOW:-fast} is taken as 'fast', its default"),
        ("networks: {default: {aliases: [x]}}",
         "networks.default.aliases: left out: a node has one name"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line(bench, keys, said):
    (line,) = bench(service(keys)).left_out
    assert line.startswith(f"5: services.a.{said}")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("volumes: {v: }", "volumes: left out: containers have files and folders"),
        ("x-more: 1", "x-more: left out: nothing in a topology means it"),
        ("version: '3'", "version: left out: it says nothing about the network"),
        ("networks: {n: }", "networks.n: left out: no service is in this network"),
        ("networks: {default: {external: true}}", "networks.default.external: left out: the lab"),
        ("networks: {default: {driver: macvlan}}", "networks.default.driver: left out: a switch"),
        ("networks: {default: {ipam: {config: [{subnet: 10.5.0.0/24, gateway: 10.5.0.1}]}}}",
         "networks.default.ipam.config[0].gateway: left out: no way leads out of a lab"),
    ],
)  # fmt: skip
def test_what_the_whole_file_says_beyond_is_named_too(bench, rest, said):
    assert any(line.startswith(f"6: {said}") for line in bench(service("", rest)).left_out)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: t", "1: the key 'services' is missing"),
        ("services:\n  a: {command: x}", "2: services.a: a service needs `image` or `build`"),
        ("services:\n  a.b: {image: i}", "2: services.a.b: expected a node name"),
        ("services:\n  a: [image]", "2: services.a: expected a mapping"),
        ("services:\n  a: {image: i, networks: [frnt]}\nnetworks: {front: }",
         "2: services.a.networks[0]: there is no network 'frnt'; did you mean 'front'?"),
        ("services:\n  a: {image: i, network_mode: host}", "'host' is no network of a lab"),
        ("services:\n  a: {image: i, networks: {default: {ipv4_address: 10.0.0.1}}}",
         "10.0.0.1 is in no subnet that the network gives under `ipam`"),
        ("services:\n  a: {build: .}", "2: services.a.build: there is no Dockerfile in "),
        ("services:\n  a: {build: {context: app, dockerfile: D}}", "only a file called Dockerfile"),
        ("services:\n  a: {image: 'i:${TAG}'}", "the variable TAG has no default in this file"),
        ("services:\n  a: {image: 'i:${TAG:?no}'}", "the variable TAG has no default"),
        ("services:\n  a: {image: i, command: \"'\"}", "is no command line: No closing quotation"),
        ("services:\n  a: {image: i, cap_add: [FLY]}", "there is no capability 'FLY'"),
        ("services:\n  a: {image: i, cpus: nan}", "expected a number, got 'nan'"),
        ("services:\n  a: {image: i, mem_limit: much}", "expected an amount of memory"),
        ("services:\n  a: {image: i, mem_limit: 9999999999g}", "expected up to 1024GiB, got"),
        ("services:\n  a: {image: i, healthcheck: {test: [RUN]}}", "expected a list that begins"),
        ("services:\n  a: {image: i, healthcheck: {interval: soon}}", "expected a time such as"),
        ("services: {a: {image: i}}\nnetworks: {default: {ipam: {config: [{subnet: x}]}}}",
         "2: networks.default.ipam.config[0].subnet: expected a subnet"),
        ("services: {a: {image: i}}\nnetworks: {default: {ipam: {config: "
         "[{subnet: 10.1.0.0/24}, {subnet: 10.2.0.0/24}]}}}", "a second IPv4 subnet"),
        ("services:\n  a: {image: i}\n  a: {image: j}", "3: services.a: this key is given twice"),
        ("services:\n  a: &x {image: i}\n  b: {<<: *x}", "merge keys (<<) are not supported"),
    ],
)  # fmt: skip
def test_what_cannot_mean_anything_is_one_error_with_its_line(bench, text, said):
    (problem,) = bench.refused(text)
    assert said in problem


def test_the_name_is_that_of_the_project_or_of_the_folder(bench):
    assert bench("name: My_Shop.v2\nservices: {a: {image: i}}").topology.name == "my-shop-v2"
    made = bench("services: {a: {image: i}}").topology
    assert made.name == bench.folder.name.replace("_", "-").lower()[:63].strip("-")


def test_a_dollar_that_is_escaped_stays_one(bench):
    made = bench(service("command: [sh, -c, 'echo $$HOME']"))
    assert made.topology.nodes["a"].settings["command"] == ("sh", "-c", "echo $HOME")
