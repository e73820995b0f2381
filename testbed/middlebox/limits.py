"""Types of options that many functions have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from testbed.topology.model import Seconds

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Duration: TypeAlias = Annotated[Seconds, msgspec.Meta(gt=0, extra={"unit": "duration"})]
