"""What docs/living-labs.md and docs/api.md show works as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.errors import LabError
from testbed.living.client import LabClient

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    found = BLOCK.findall((DOCS / page).read_text())
    return [text for named, text in found if named == language]


@pytest.mark.parametrize("code", blocks("living-labs.md", "python"))
def test_programs_print_what_they_found(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = float(done.stdout)
    # The status of a page, or a round trip, which a busy machine can only make longer.
    assert found == 200 if "fetch" in code else 0.02 <= found < 2


def test_the_examples_of_the_api_are_answered(living):
    living.run("up", "docomo")
    client = LabClient.of("docomo")
    asked = [line for text in blocks("api.md", "") for line in text.splitlines() if "curl" in line]
    # When something has happened there are events; the last one ends the lab.
    asked.sort(key=lambda line: ("DELETE" in line, "/events" in line))
    for line in asked:
        words = shlex.split(line)
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        method = "DELETE" if "DELETE" in words else "POST" if body else "GET"
        target = next(word for word in words if "//lab" in word).removeprefix("http://lab")
        if target.startswith("/events"):
            assert next(client.events(after=0)).number == 1
        elif target.startswith("/nodes/router/log"):
            with pytest.raises(LabError, match="trace-log"):
                client.ask(method, target)
        else:
            assert client.bytes(method, target, body)
    assert len(asked) == 14
    (program,) = blocks("api.md", "python")
    living.run("up", "docomo")
    done = living.start(program=program)
    out, errors = done.communicate(timeout=60)
    assert {"gateway", "{'status': 3}"} < set(out.splitlines()), errors


def test_the_table_of_commands_names_all_of_them(living):
    page = (DOCS / "living-labs.md").read_text()
    told = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    told |= set(re.findall(r"^\| `cut[^|]*`(restore)", page, re.MULTILINE))
    from testbed.cli import labs, verbs
    from testbed.cli.app import app

    names = {
        command.name for command in app.registered_commands
        if command.callback and command.callback.__module__ in (labs.__name__, verbs.__name__)
    }  # fmt: skip
    assert told == names | {"exec"}
