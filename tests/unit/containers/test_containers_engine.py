"""What is decided about containers without an engine."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest

from testbed.containers import images
from testbed.containers.engine import socket_path
from testbed.containers.images import content_digest
from testbed.containers.owner import OwnerLabel
from testbed.errors import EngineError
from testbed.kernel.processes import enter
from testbed.kernel.processes.confinement import control_groups
from testbed.topology.kinds.container import CAPABILITIES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("page")
    return tmp_path


def test_a_digest_is_of_names_kinds_permissions_and_bytes(folder: Path) -> None:
    page = folder / "www" / "index.html"
    seen = {content_digest(folder)}
    os.utime(page, (0, 0))
    assert content_digest(folder) in seen
    for change in (
        lambda: page.write_text("another"),
        lambda: page.chmod(0o755),
        lambda: page.rename(folder / "index.html"),
        lambda: (folder / "www").rmdir(),
        lambda: (folder / "www").symlink_to("/srv"),
    ):
        change()
        assert content_digest(folder) not in seen
        seen.add(content_digest(folder))


def test_what_is_too_much_for_an_image_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MOST_FILES", 2)
    with pytest.raises(EngineError, match="more than 2 files"):
        content_digest(folder)


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("debian", "debian", "latest"),
        ("debian:slim", "debian", "slim"),
        ("localhost:5000/a", "localhost:5000/a", "latest"),
        ("localhost:5000/a:b", "localhost:5000/a", "b"),
        ("a@sha256:00", "a", "sha256:00"),
    ],
)
def test_a_name_of_an_image_is_taken_apart(image: str, name: str, tag: str) -> None:
    assert images.name_and_tag(image) == (name, tag)


def test_an_owner_lives_as_long_as_its_thread() -> None:
    labels: list[OwnerLabel] = []
    go_on = threading.Event()
    noted = threading.Event()

    def live() -> None:
        labels.append(OwnerLabel.of_this_thread())
        noted.set()
        go_on.wait()

    thread = threading.Thread(target=live)
    thread.start()
    noted.wait()
    (label,) = labels
    assert not label.is_dead
    assert msgspec.structs.replace(label, started=label.started - 1).is_dead
    assert msgspec.structs.replace(label, boot="another").is_dead
    assert not msgspec.structs.replace(label, pids=label.pids + 1, thread=1 << 30).is_dead
    go_on.set()
    thread.join()
    assert label.is_dead


def test_only_an_engine_of_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert socket_path() == "/var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///a/b.sock")
    assert socket_path() == "/a/b.sock"
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(EngineError, match=r"DOCKER_HOST is ssh.*Set it to unix://PATH"):
        socket_path()


def test_control_groups_of_both_versions_are_found(tmp_path: Path) -> None:
    for name in ("memory/docker/a", "systemd/docker/a", "unified/docker/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").touch()
    told = "4:memory:/docker/a\n2:name=systemd:/docker/a\n1:cpu:/docker/a\n0::/docker/a\n"
    assert control_groups(told, tmp_path) == tuple(
        str(tmp_path / name / "docker/a/cgroup.procs") for name in ("memory", "systemd", "unified")
    )
    (tmp_path / "docker/a").mkdir(parents=True)
    (tmp_path / "docker/a/cgroup.procs").touch()
    assert control_groups("0::/docker/a\n", tmp_path) == (str(tmp_path / "docker/a/cgroup.procs"),)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", (0, 0, [], "/root")),
        ("web", (33, 44, [55], "/srv")),
        ("33", (33, 44, [55], "/srv")),
        ("web:more", (33, 55, [55], "/srv")),
        ("7:8", (7, 8, [], "/")),
    ],
)
def test_a_user_is_found_as_the_reference_of_dockerfile_says(
    monkeypatch: pytest.MonkeyPatch, words: str, found: tuple[int, int, list[int], str]
) -> None:
    rows = {
        "/etc/passwd": [["root", "x", "0", "0", "", "/root"], ["web", "x", "33", "44", "", "/srv"]],
        "/etc/group": [["more", "x", "55", "web"]],
    }
    monkeypatch.setattr(enter, "_rows", rows.__getitem__)
    assert enter._user(words) == found
    with pytest.raises(OSError, match="no such user"):
        enter._user("nobody-here")
    with pytest.raises(OSError, match="no such group"):
        enter._user("web:nothing")


def test_capabilities_stand_at_their_numbers() -> None:
    assert CAPABILITIES.index("NET_ADMIN") == 12
    assert CAPABILITIES.index("SYS_ADMIN") == 21
    assert CAPABILITIES.index("CHECKPOINT_RESTORE") == 40
