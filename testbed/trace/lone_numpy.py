"""numpy, imported without the threads of its linear algebra, which nothing here uses.

A process that has threads cannot move into a user namespace (unshare(2)), and so an ordinary user
could have no lab in a process that has read a capture.
"""

from __future__ import annotations

import os

_VARIABLE = "OPENBLAS_NUM_THREADS"  # read once, when the library is loaded

_before = os.environ.get(_VARIABLE)
os.environ[_VARIABLE] = "1"
try:
    import numpy  # noqa: F401
finally:
    if _before is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = _before
