"""How fast labs of containers come up and go down.

    python benchmarks/containers.py [--repeat N] [--nodes N] [--json]

Up: from `Lab(topology)` to the answer to a first ping from one end to the other. Down: from the end
of the `with` block until it is left and every container is removed. The containers have this
machine's /usr, and sleep; a switch joins them. Needs root and an engine (DOCKER_HOST).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tarfile
import time

from testbed.containers.engine import ContainerEngine
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Link, Node, Topology

IMAGE = "testbed-benchmark/empty"


def import_image() -> None:
    """Give the engine an image with nothing but the folders of this machine's /usr."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("usr", "proc", "sys", "dev", "etc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for name in ("bin", "lib", "lib64", "sbin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
    with contextlib.closing(ContainerEngine()) as engine:
        engine.api.import_image_from_data(data.getvalue(), repository=IMAGE)


def star(nodes: int) -> Topology:
    settings = {
        "image": IMAGE,
        "command": ("sleep", "infinity"),
        "mounts": ({"source": "/usr", "target": "/usr"},),
    }
    names = [f"c{number}" for number in range(nodes)]
    hosts = {name: Node(name=name, kind="container", settings=settings) for name in names}
    return Topology(
        name="containers",
        nodes={"switch": Node(name="switch", kind="switch"), **hosts},
        links=tuple(
            Link(endpoints=(Endpoint("switch", name), Endpoint(name, "eth0"))) for name in names
        ),
    )


def measure(nodes: int) -> dict[str, float]:
    began = time.monotonic()
    with Lab(star(nodes)) as lab:
        lab["c0"].ping(lab[f"c{nodes - 1}"])
        up = time.monotonic()
    return {"up": up - began, "down": time.monotonic() - up}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    import_image()
    samples = [measure(asked.nodes) for _ in range(asked.repeat)]
    if asked.json:
        print(json.dumps(samples))
        return
    for what in ("up", "down"):
        values = [sample[what] for sample in samples]
        print(
            f"{asked.nodes} containers {what}: median {statistics.median(values):.2f} s, "
            f"{min(values):.2f} to {max(values):.2f} s in {len(values)} labs"
        )


if __name__ == "__main__":
    main()
