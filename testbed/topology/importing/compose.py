"""Files of Docker Compose: a service is a container, a network is a switch."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from testbed.topology import names
from testbed.topology.importing import container
from testbed.topology.importing.container import without_empty
from testbed.topology.importing.foreign import (
    NOTHING,
    ForeignFile,
    Imported,
    Part,
    named,
    topology_name,
)
from testbed.topology.kinds.container import is_there
from testbed.topology.names import Network
from testbed.wording import quote

_DEFAULT: Final = "default"
_WHY: Final = {
    "aliases": "a node has one name",
    "configs": "files of this machine are named in `volumes`",
    "container_name": "a container is called by its node",
    "depends_on": "all nodes of a lab begin together; it is ready once all health checks succeed",
    "deploy": "each service is one container on this machine",
    "entrypoint": "a container has its image's entry point; `command` is its command",
    "env_file": "files of variables are not read; write them as `environment`",
    "expose": "nothing keeps the nodes of a lab from one another's ports",
    "extends": "no other file is read; write the keys here",
    "hostname": "a node is called by its name in the topology",
    "init": "programs of a lab end with it",
    "labels": "labels say nothing about the network",
    "ports": "no way leads from outside into a lab",
    "profiles": "the service is a node in any case",
    "restart": "a container whose command ends is the end of its lab",
    "scale": "each service is one container",
    "secrets": "files of this machine are named in `volumes`",
    "version": "it says nothing about the network",
    "volumes": "containers have files and folders of this machine, not volumes of the engine",
}


def compose(text: str, source: str, folder: Path, beside: Path) -> Imported:
    """The topology that a Compose file means, as far as one can.

    source: what messages call the file. folder: where the names of files in it start from, whose
    own name is that of the project unless the file has one; beside: the folder of the topology
    that is made. Raises TopologyError with a line for every fault.
    """
    file = ForeignFile(source, folder, beside)
    return _Project(file, file.read(text), folder.absolute().name).imported()


class _Switch:
    """One network: the switch that stands for it, and what it says about addresses."""

    def __init__(self, part: Part | None, name: str) -> None:
        self.part = part
        self.name = name
        self.used = False
        self.subnets: list[Network] = []
        keys = part.entries() if part is not None else {}
        self.has_ipv6 = keys.pop("enable_ipv6").switch() if "enable_ipv6" in keys else False
        if "ipam" in keys:
            self._read_ipam(keys.pop("ipam"))
        driver = keys.pop("driver", None)
        if driver is not None and driver.text() not in ("bridge", None):
            driver.leave_out("a switch of the lab stands for every network")
        keys.pop("internal", None)  # as every network of a lab is
        for key, entry in keys.items():
            why = {
                "external": "the lab has a network of its own in place of the engine's",
                "name": "a network is called by its key",
            }
            entry.leave_out(why.get(key, _WHY.get(key, NOTHING)))
        self.has_ipv6 |= any(subnet.version == 6 for subnet in self.subnets)

    def _read_ipam(self, part: Part) -> None:
        keys = part.entries()
        configs = keys.pop("config").items() if "config" in keys else []
        for config in configs:
            entries = config.entries()
            if "subnet" in entries:
                subnet = entries.pop("subnet").parsed(names.parse_subnet)
                if subnet is not None and any(
                    one.version == subnet.version for one in self.subnets
                ):
                    config.fault(
                        f"a second IPv{subnet.version} subnet; a link has one of each family"
                    )
                elif subnet is not None:
                    self.subnets.append(subnet)
            for key, entry in entries.items():
                entry.leave_out("no way leads out of a lab" if key == "gateway" else NOTHING)
        for entry in keys.values():
            entry.leave_out(NOTHING)

    def address(self, part: Part, version: int) -> str | None:
        """A service's address with the length of the network's subnet."""
        text = part.text()
        if text is None:
            return None
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            part.fault(f"expected an IPv{version} address, got {quote(text)}")
            return None
        for subnet in self.subnets:
            if address in subnet:
                return f"{address}/{subnet.prefixlen}"
        part.fault(f"{address} is in no subnet that the network gives under `ipam`")
        return None

    def link(self, end: str) -> dict[str, Any]:
        """The link from an interface to the switch."""
        subnets = [str(subnet) for subnet in self.subnets]
        return {"endpoints": [end, self.name]} | without_empty(
            {
                "subnet": subnets[0] if len(subnets) == 1 else subnets,
                "family": None if self.has_ipv6 else "ipv4",
            }
        )


class _Project:
    def __init__(self, file: ForeignFile, whole: Part, folder_name: str) -> None:
        self._file = file
        top = whole.entries()
        name = top.pop("name").text() if "name" in top else None
        self._name = topology_name(name or folder_name)
        services = top.pop("services", None)
        if services is None:
            whole.fault("the key 'services' is missing, which a Compose file has")
        self._services = services.entries() if services is not None else {}
        networks = top.pop("networks").entries() if "networks" in top else {}
        self._taken = {*self._services}
        self._switches: dict[str, _Switch] = {}
        for key in dict.fromkeys((*networks, _DEFAULT)):
            self._switches[key] = _Switch(networks.get(key), self._switch_name(key))
        for key, part in top.items():
            part.leave_out(_WHY.get(key, NOTHING))

    def _switch_name(self, network: str) -> str:
        """The network's own name, unless a service has it or no node may."""
        name = network
        while name in self._taken or name in names.RESERVED_NODES:
            name += "-net"
        self._taken.add(name)
        return name

    def imported(self) -> Imported:
        """The topology of all that is in the file."""
        nodes: dict[str, dict[str, Any]] = {}
        links: list[dict[str, Any]] = []
        for name, part in self._services.items():
            nodes[named(part, name)] = self._service(name, part, links)
        for network, switch in self._switches.items():
            if switch.used:
                nodes[named(switch.part, switch.name) if switch.part else switch.name] = {
                    "kind": "switch"
                }
                if switch.name != network and switch.part is not None:
                    switch.part.note(f"its switch is called {switch.name}")
            elif switch.part is not None:
                switch.part.leave_out("no service is in this network")
        topology = {"name": self._name, "nodes": nodes, "links": links}
        return self._file.imported(without_empty(topology))

    def _service(self, name: str, part: Part, links: list[dict[str, Any]]) -> dict[str, Any]:
        keys = part.entries()
        if not (part.is_mapping or part.is_null):
            return {}
        image, build = keys.pop("image", None), keys.pop("build", None)
        if image is None and build is None:
            part.fault("a service needs `image` or `build`")
        if image is not None and build is not None:
            image.leave_out("the image is the one that `build` makes")
        node: dict[str, Any] = {
            "kind": "container",
            "image": image.text() if image is not None and build is None else None,
            "build": _build(build) if build is not None else None,
        }
        for key, (ours, read) in _SETTINGS.items():
            if key in keys:
                node[ours] = read(keys.pop(key))
        node["interfaces"] = self._networks(name, part, keys, links)
        for key, entry in keys.items():
            entry.leave_out(_WHY.get(key, NOTHING))
        return without_empty(node)

    def _networks(
        self, name: str, part: Part, keys: dict[str, Part], links: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Links of a service to its networks; what it says of its interfaces."""
        mode = keys.pop("network_mode", None)
        if mode is not None:
            word = mode.text()
            if word == "none":
                return {}
            if word not in ("bridge", None):
                mode.fault(f"{quote(word)} is no network of a lab; give the service `networks`")
        given = keys.pop("networks", None)
        wanted: list[tuple[str, Part, Part | None]] = []
        if given is not None and given.is_list:
            items = ((item, item.text()) for item in given.items())
            wanted = [(text, item, None) for item, text in items if text is not None]
        elif given is not None:
            wanted = [(key, entry, entry) for key, entry in given.entries().items()]
        wanted = wanted or [(_DEFAULT, part, None)]
        interfaces = {}
        for number, (network, where, settings) in enumerate(wanted):
            switch = self._switches.get(network)
            if switch is None:
                where.unknown("network", network, self._switches)
                continue
            switch.used = True
            interface, addresses = _interface(f"eth{number}", switch, settings)
            links.append(switch.link(f"{name}:{interface}"))
            if addresses:
                interfaces[interface] = {"addresses": addresses}
        return interfaces


def _interface(name: str, switch: _Switch, settings: Part | None) -> tuple[str, list[str]]:
    """The interface of a service in a network: its name and its addresses."""
    keys = settings.entries() if settings is not None else {}
    if "interface_name" in keys:
        name = keys.pop("interface_name").parsed(names.parse_interface_name) or name
    addresses = [
        switch.address(keys.pop(f"ipv{version}_address"), version)
        for version in (4, 6)
        if f"ipv{version}_address" in keys
    ]
    for key, entry in keys.items():
        entry.leave_out(_WHY.get(key, NOTHING))
    return name, [address for address in addresses if address is not None]


def _build(part: Part) -> str | None:
    """The folder with the Dockerfile, as the topology is to call it."""
    keys = part.entries() if part.is_mapping else {"context": part}
    context = keys.pop("context", None)
    if context is None:
        part.fault("the key 'context' is missing, the folder with the Dockerfile")
        return None
    text = context.text()
    dockerfile = keys.pop("dockerfile", None)
    if dockerfile is not None and dockerfile.text() not in ("Dockerfile", None):
        dockerfile.fault("only a file called Dockerfile is built; call it so")
    for entry in keys.values():
        entry.leave_out("an image is built of its folder alone")
    if text is None:
        return None
    path, name = part.file.local(text)
    if not is_there(path / "Dockerfile"):
        context.fault(f"there is no Dockerfile in {path}")
    return name


def _mounts(part: Part) -> list[dict[str, Any]]:
    found = (
        _long_mount(item) if item.is_mapping else container.mount(item, volumes=True)
        for item in part.items()
    )
    return [one for one in found if one is not None]


def _long_mount(part: Part) -> dict[str, Any] | None:
    """A mount as a mapping: only those of the type `bind` are of this machine's files."""
    keys = part.entries()
    kind = keys.pop("type").text() if "type" in keys else "volume"
    if kind != "bind":
        part.leave_out("only a mount of the type bind has files of this machine")
        return None
    if "source" not in keys or "target" not in keys:
        part.fault("a mount has the keys `source` and `target`")
        return None
    source, target = keys.pop("source").text(), keys.pop("target").text()
    read_only = keys.pop("read_only").switch() if "read_only" in keys else False
    for entry in keys.values():
        entry.leave_out(NOTHING)
    if source is None or target is None:
        return None
    return container.local_mount(part, source, target, writable=not read_only)


#: Keys of a service that a container has, too: what it calls them, and how they are read.
_SETTINGS: Final[dict[str, tuple[str, Callable[[Part], Any]]]] = {
    "command": ("command", lambda part: None if part.is_null else part.words()),
    "environment": ("environment", lambda part: container.environment([part])),
    "volumes": ("mounts", _mounts),
    "cap_add": ("capabilities", container.capabilities),
    "cpus": ("cpus", container.processors),
    "mem_limit": ("memory", container.memory),
    "healthcheck": ("health", container.health),
    "sysctls": ("sysctls", lambda part: container.sysctls([part])),
}
