"""The gate tries the same examples every time, however long each takes.

To look for more: `pytest --hypothesis-profile=search tests/unit`.
"""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("gate", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("gate")
