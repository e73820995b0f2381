"""The code of docs/write-a-function.md, as files."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "write-a-function.md"


def install(folder: Path) -> None:
    """Write the page's files there, as a distribution that Python finds on its path."""
    for block in re.findall(r"^```(?:python|toml)\n(.*?)^```$", PAGE.read_text(), re.S | re.M):
        name = re.match(r"# (\S+)\n", block)
        assert name is not None, "each block begins with the name of its file"
        (folder / name[1]).write_text(block)
    named = re.search(r"^first-loss = \"(.+)\"$", (folder / "pyproject.toml").read_text(), re.M)
    assert named is not None
    about = folder / "first_loss-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: first-loss\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        f"[testbed.middlebox_functions]\nfirst-loss = {named[1]}\n"
    )
