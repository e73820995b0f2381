"""What the docs site needs beyond Markdown: files from outside docs/, and docstrings as lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_OUTSIDE = re.compile(r"\]\(\.\./(topologies/[^)#]+)\)")
_EXPLAINED = re.compile(r"^(?=[a-z_]\w*(, \w+)*: )", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take along the topologies and traces that pages link to."""
    root = Path(config.docs_dir).parent
    texts = [file.content_string for file in files if file.is_documentation_page()]
    for name in sorted({name for text in texts for name in _OUTSIDE.findall(text)}):
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links out of docs/ lead to the copies."""
    up = "../" * page.file.src_uri.count("/")
    return _OUTSIDE.sub(rf"]({up}\1)", markdown)


class ListOfParameters(griffe.Extension):
    """A line `name: what it is` of a docstring begins an item of a list."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _EXPLAINED.sub("\n- ", obj.docstring.value)
