"""Building kernels, with a source tree whose Makefile takes no time."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.errors import KernelError, MissingProgram
from testbed.kernel.uml import build as builder
from testbed.kernel.uml import recipe, source, store

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("make", "patch", "tar")),
    reason="needs make, patch and tar",
)

MAKEFILE = """\
VERSION = {version}
PATCHLEVEL = {patchlevel}
SUBLEVEL = 7
EXTRAVERSION =

mrproper:
allnoconfig:
\tprintf '%s=y\\n' CONFIG_UML_TIME_TRAVEL_SUPPORT CONFIG_INET CONFIG_VETH > .config
linux: {recipe}
\tcp greeting linux
works:
\techo '  CC      init/main.o'
breaks:
\techo 'init/main.c:1: error: expected a kernel' >&2; exit 1
"""
PATCH = """\
SPDX-License-Identifier: GPL-2.0

--- a/greeting
+++ b/greeting
@@ -1 +1 @@
-a kernel
+a patched kernel
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, one patch, and every tool that a build needs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    patches = tmp_path / "recipe" / "patches"
    patches.mkdir(parents=True)
    (patches / "0001-greeting.patch").write_text(PATCH)
    (tmp_path / "recipe" / "config").write_text("CONFIG_INET=y\n")
    monkeypatch.setattr(recipe, "_FOLDER", tmp_path / "recipe")
    monkeypatch.setattr(recipe, "CONFIGURATION", tmp_path / "recipe" / "config")
    monkeypatch.setattr(builder, "_require_tools", lambda: None)
    monkeypatch.setattr(builder, "_compiler", lambda: "a compiler")
    monkeypatch.setattr(builder, "_ROOM", 1 << 20)
    recipe.recipe_digest.cache_clear()
    yield store.store()
    recipe.recipe_digest.cache_clear()


def tree(tmp_path: Path, *, version: int = 6, patchlevel: int = 5, outcome: str = "works") -> Path:
    folder = tmp_path / f"linux-{version}.{patchlevel}-{outcome}"
    folder.mkdir()
    makefile = MAKEFILE.format(version=version, patchlevel=patchlevel, recipe=outcome)
    (folder / "Makefile").write_text(makefile)
    (folder / "greeting").write_text("a kernel\n")
    return folder


def silent(stage: str, done: int, total: int) -> None:
    pass


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.name != ".lock")


def test_a_folder_is_built_and_left_as_it_was(tmp_path: Path, cache: Path):
    folder = tree(tmp_path)
    heard = []
    kernel = builder.build(source=folder, progress=lambda *what: heard.append(what))
    assert kernel.name == f"6.5.7-{recipe.recipe_digest()}"
    assert kernel.program.read_text() == "a patched kernel\n"
    assert entries(cache) == [kernel.name]
    assert store.built_kernels() == (kernel,)
    assert sorted(path.name for path in folder.iterdir()) == ["Makefile", "greeting"]
    assert ("apply the patches", 0, 0) in heard
    assert any(stage == "compile" and done > 0 for stage, done, _ in heard)


def test_a_tarball_is_built(tmp_path: Path):
    archive = tmp_path / "linux.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree(tmp_path), arcname="linux-6.5.7")
    assert builder.build(source=archive, progress=silent).version == "6.5.7"


def test_a_broken_build_leaves_nothing_and_says_what_the_compiler_said(tmp_path: Path, cache: Path):
    with pytest.raises(KernelError, match=r"make linux .*status 2(.|\n)*expected a kernel"):
        builder.build(source=tree(tmp_path, outcome="breaks"), progress=silent)
    assert entries(cache) == []


def test_a_broken_build_does_not_harm_the_kernel_of_the_same_name(tmp_path: Path):
    kernel = builder.build(source=tree(tmp_path), progress=silent)
    with pytest.raises(KernelError):
        builder.build(source=tree(tmp_path, outcome="breaks"), progress=silent)
    assert kernel.program.read_text() == "a patched kernel\n"


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path, cache: Path):
    (cache / ".building-left" / "source").mkdir(parents=True)
    kernel = builder.build(source=tree(tmp_path), progress=silent)
    assert entries(cache) == [kernel.name]


def test_a_kernel_that_is_there_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kernel = builder.build(source=tree(tmp_path), progress=silent)
    monkeypatch.setattr(source, "_of_debian", lambda *_: pytest.fail("it was built again"))
    assert builder.build("6.5", progress=silent) == kernel


def test_another_recipe_makes_another_kernel(tmp_path: Path):
    old = builder.build(source=tree(tmp_path), progress=silent)
    recipe.CONFIGURATION.write_text("CONFIG_IPV6=y\n")
    recipe.recipe_digest.cache_clear()
    new = builder.build(source=tmp_path / "linux-6.5-works", progress=silent)
    assert (old.current, new.current) == (False, True)
    assert store.built_kernels() == (new, old)
    assert store.find_kernel("6.5") == new
    assert store.find_kernel(old.name) == old


def test_later_kernels_are_preferred_and_removed_ones_are_gone(tmp_path: Path):
    for patchlevel in (9, 12):
        builder.build(source=tree(tmp_path, patchlevel=patchlevel), progress=silent)
    late, early = store.built_kernels()
    assert (late.version, early.version) == ("6.12.7", "6.9.7")
    assert store.find_kernel() == late
    store.remove_kernel(late.name)
    assert store.built_kernels() == (early,)
    assert not late.folder.exists()
    with pytest.raises(KernelError, match=f"There are: {early.name}"):
        store.remove_kernel(late.name)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [(None, "testbed kernel build$"), ("6.1", r"there are: none.*testbed kernel build 6\.1$")],
)
def test_a_kernel_that_is_not_there_is_told_with_the_command_that_builds_it(wanted, told):
    with pytest.raises(KernelError, match=told):
        store.find_kernel(wanted)


def test_a_version_does_not_mean_a_longer_number(tmp_path: Path):
    builder.build(source=tree(tmp_path, patchlevel=12), progress=silent)
    with pytest.raises(KernelError):
        store.find_kernel("6.1")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda tmp: tree(tmp, version=5, patchlevel=10), "too old.* 6.1 or later"),
        (lambda tmp: tmp, "not the source of a Linux kernel"),
        (lambda tmp: tmp / "nowhere.tar.xz", "no source of Linux at"),
    ],
    ids=["old", "other", "missing"],
)
def test_a_source_that_cannot_be_built_is_refused(tmp_path: Path, cache: Path, make, told):
    given = make(tmp_path)
    if given == tmp_path:
        given = tmp_path / "something"
        given.mkdir()
    with pytest.raises(KernelError, match=told):
        builder.build(source=given, progress=silent)
    assert entries(cache) == []


def test_a_patch_that_does_not_fit_is_named(tmp_path: Path, cache: Path):
    folder = tree(tmp_path)
    (folder / "greeting").write_text("something else\n")
    with pytest.raises(KernelError, match=r"0001-greeting.patch does not fit Linux 6\.5\.7"):
        builder.build(source=folder, progress=silent)
    assert entries(cache) == []


def test_an_optional_patch_that_does_not_fit_is_left_out(tmp_path: Path):
    patches = recipe._FOLDER / "patches"
    other = PATCH.replace("GPL-2.0\n", "GPL-2.0\nOptional: it is nicer.\n").replace(
        "/greeting", "/no"
    )
    (patches / "0002-nicer.patch").write_text(other)
    kernel = builder.build(source=tree(tmp_path), progress=silent)
    assert kernel.about.left_out == ["0002-nicer.patch"]
    assert kernel.program.read_text() == "a patched kernel\n"


def test_missing_tools_are_told_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def find(name: str) -> str:
        if name in ("flex", "xz"):
            raise MissingProgram(name)
        return name

    monkeypatch.setattr(builder, "find_program", find)
    monkeypatch.setattr(builder, "_has_c_library", lambda: True)
    with pytest.raises(MissingProgram, match=r"apt-get install flex xz-utils$"):
        builder.build("6.5", progress=silent)
    assert not (tmp_path / "cache").exists()


def test_two_builds_at_a_time_are_refused(tmp_path: Path):
    def second(stage: str, done: int, total: int) -> None:
        with pytest.raises(KernelError, match="Another build"):
            builder.build(source=tmp_path, progress=silent)

    builder.build(source=tree(tmp_path), progress=second)


def test_every_patch_of_the_real_recipe_tells_its_licence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert recipe.patches()
    for path in recipe.patches():
        assert path.read_text().startswith("SPDX-License-Identifier: GPL-2.0\n")
