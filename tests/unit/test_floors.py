"""The floors of the house: imports only point down, and no module is too long to be read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import testbed

ROOT = Path(testbed.__file__).parent
FACES = {"cli", "__main__", "pytest_plugin"}
# From top to bottom; every folder and module of the package stands here or is a face.
FLOORS = (
    "faces",
    "living",
    "scenarios",
    "conformance",
    "expectations",
    "report",
    "trace",
    "traffic",
    "lab",
    "loading",
    "middlebox",
    "doctor",
    "emulator",
    "containers",
    "kernel",
    "topology",
    "transport",
    "wire",
    "discovery",
    "wording",
    "errors",
    "lazy",
)
# The rooms of the topology, from top to bottom. The loader calls the checks, which need no YAML.
TOPOLOGY_ROOMS = (
    "planning",
    "importing",
    "yaml",
    "checks",
    "impairments",
    "vary",
    "broadcast_domains",
    "kinds",
    "values",
    "names",
    "units",
    "problems",
    "model",
)
PURE = {"topology", "transport", "wire", "trace", "report"}
TOUCHES_LINUX = {"kernel", "lab", "emulator", "middlebox", "traffic"}
FUNCTIONS = "testbed.middlebox.functions"
CHECKS = "testbed.conformance.checks"
BELOW_THE_FACE = {"lab", "loading", "middlebox", "emulator", "kernel", "topology", "wire", "trace"}
KERNEL_ONLY = {"pyroute2", "ctypes", "fcntl"}
MODULES = sorted(ROOT.rglob("*.py"))
# Names that may stand for several public classes, and why.
HOMONYMS = {
    "Finding": "of the doctor about this machine, of a check about an endpoint",
    "Options": "of a TCP segment, and nested in each middlebox function",
    "Endpoint": "of a topology an address on a link, of a trace an address and a port",
    "Flow": "of a trace two endpoints, for authors of middlebox functions what a table remembers",
}
LONGEST = 420


def floor_of(module: str) -> str | None:
    """The floor of `testbed.x.y`; None for the package itself and for foreign modules."""
    first, _, rest = module.partition(".")
    if first != "testbed" or not rest:
        return None
    name = rest.split(".")[0]
    return "faces" if name in FACES else name


def room_of(module: str) -> str | None:
    """The room of `testbed.topology.x.y`; None for the face and for other packages."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["testbed", "topology"] and len(parts) > 2 else None


def imports_of(source: str) -> Iterator[str]:
    """Every module that is imported, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module
            if module == "testbed":
                yield from (f"testbed.{alias.name}" for alias in node.names)


def faults(module: str, source: str) -> list[str]:
    floor = floor_of(module)
    found = []
    if module.startswith(f"{FUNCTIONS}."):
        own = ".".join(module.split(".")[:4])  # its module, or its folder
        may = ("testbed.middlebox", "testbed.errors", own)
        found += [
            f"{module} imports {imported}: a function imports only the face, transport and wire"
            for imported in imports_of(source)
            if floor_of(imported) not in (None, "transport", "wire")
            and imported not in may
            and not imported.startswith(f"{own}.")
        ]
    if module.startswith(f"{CHECKS}."):
        found += [
            f"{module} imports {imported}: a check is pure, and looks at traces only"
            for imported in imports_of(source)
            if floor_of(imported) not in (None, "conformance", "trace", "wire", "wording", "errors")
        ]
    for imported in imports_of(source):
        room, room_below = room_of(module), room_of(imported)
        if room and room_below and TOPOLOGY_ROOMS.index(room_below) < TOPOLOGY_ROOMS.index(room):
            found.append(f"{module} ({room}) imports {imported}, which is above it")
        below = floor_of(imported)
        if imported == "testbed" and floor in BELOW_THE_FACE:
            found.append(f"{module} ({floor}) imports the top package, which is above it")
        if floor in FLOORS and below in FLOORS and FLOORS.index(below) < FLOORS.index(floor):
            found.append(f"{module} ({floor}) imports {imported}, which is above it")
        if floor in PURE and below in TOUCHES_LINUX:
            found.append(f"{module} is pure and imports {imported}")
        if imported.split(".")[0] in KERNEL_ONLY and floor != "kernel":
            found.append(f"{module} imports {imported}, which only the kernel floor may")
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_folder_and_module_has_a_floor():
    found = {
        path.stem
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found - {"__init__"} == {*FLOORS, *FACES} - {"faces"}


def test_the_page_about_the_design_lists_the_floors_in_order():
    page = (ROOT.parent / "docs" / "design.md").read_text()
    listed = page.split("## Floors")[1].split("```")[1].strip().splitlines()
    assert [line.split()[0].removesuffix("/").removesuffix(".py") for line in listed] == [*FLOORS]
    assert set(re.findall(r"(\w+)(?:/|\.py)", listed[0])) == FACES


def test_every_room_of_the_topology_is_listed():
    rooms = {room_of(name_of(path)) for path in MODULES}
    assert rooms - {None} == set(TOPOLOGY_ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    assert faults(name_of(path), path.read_text()) == []


def repeated(sources: Iterable[str]) -> set[str]:
    """The names of public classes that stand in more than one place."""
    names = Counter(
        node.name
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {name for name, count in names.items() if count > 1}


def test_one_name_stands_for_one_class():
    assert repeated(path.read_text() for path in MODULES) == HOMONYMS.keys()
    assert repeated(
        ["class A: ...\nclass _C: ...", "class B:\n  class A: ...", "class _C: ..."]
    ) == {"A"}


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that import one another, directly or through others."""
    reached = {module: set(below) for module, below in imports.items()}
    for via in imports:
        for below in reached.values():
            if via in below:
                below |= reached[via]
    knots = {module: {other for other in below if module in reached[other]} for module, below in
             reached.items() if module in below}  # fmt: skip
    return [knot for module, knot in sorted(knots.items()) if module == min(knot)]


def imports_of_modules() -> dict[str, set[str]]:
    """The modules of the package that each of them imports, for type checking too."""
    sources = {name_of(path): path.read_text() for path in MODULES}
    found = {}
    for module, source in sources.items():
        found[module] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                found[module] |= {n if n in sources else node.module or "" for n in names}
            elif isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
        found[module] &= sources.keys()
    return found


def test_no_module_imports_itself_through_others():
    inside = {
        module: {below for below in imported if floor_of(below) == floor_of(module)}
        for module, imported in imports_of_modules().items()
        if floor_of(module) is not None
    }
    assert circles(inside) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("testbed.kernel.x", "from testbed.lab import Lab"),
        ("testbed.kernel.x", "def f():\n    import testbed.emulator.userspace.link"),
        ("testbed.topology.x", "from testbed import cli"),
        ("testbed.topology.checks.x", "from testbed.topology.yaml.load import load"),
        ("testbed.topology.values.x", "from testbed.topology.checks.topology import check"),
        ("testbed.report.x", "from testbed.kernel import sysctl"),
        ("testbed.lab.x", "import fcntl"),
        ("testbed.lab.x", "from testbed import loads"),
        ("testbed.kernel.x", "import testbed"),
        ("testbed.middlebox.functions.x", "from testbed.middlebox.functions.nat import y"),
        ("testbed.middlebox.functions.x", "from testbed.middlebox.timers import Timer"),
        ("testbed.middlebox.functions.x", "from testbed.topology.model import Seconds"),
        ("testbed.conformance.checks.x", "from testbed.report import draw"),
        ("testbed.lab.x", "from pyroute2.netlink import nlmsg"),
    ],
)
def test_a_wrong_import_is_noticed(module, source):
    assert faults(module, source)
