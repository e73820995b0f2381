"""Plain data as YAML that `document.parse` reads back as the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from testbed.topology.yaml.document import resolve

_WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.2 reads as something else, too, and repeats instead of referring."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(resolve(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(data: Mapping[str, Any]) -> str:
    """The data in the order given; what holds only plain values takes one line."""
    dumped: str = yaml.dump(
        dict(data),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=_WIDTH,
    )
    return dumped
