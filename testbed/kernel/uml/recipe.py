"""What our kernels are made of besides Linux itself: patches and a configuration."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).resolve().parent
CONFIGURATION: Final = _FOLDER / "virtual.config"
#: The earliest Linux that the patches fit.
OLDEST: Final = (6, 1)


def patches() -> tuple[Path, ...]:
    """The patch files in the order in which they are applied."""
    return tuple(sorted((_FOLDER / "patches").glob("*.patch")))


@cache
def recipe_digest() -> str:
    """Eight hexadecimal digits that change with any patch and with the configuration."""
    digest = hashlib.sha256()
    for path in (*patches(), CONFIGURATION):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]
