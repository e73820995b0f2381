"""What a report of a test gets: sections, properties for JUnit, extras for pytest-html."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.pytest_plugin.evidence import Account, Evidence, describe, directory_name, keep
from testbed.pytest_plugin.labs import LabsOfProcess
from testbed.pytest_plugin.options import DIRECTORY, KEEP


def add_to_report(labs: LabsOfProcess, item: pytest.Item, report: pytest.TestReport) -> None:
    """Add what is known of the test's labs; keep their captures."""
    found = labs.evidence(item)
    directory = _directory(item)
    for number, evidence in enumerate(found):
        # Labs after the first, which tests seldom have, are kept apart.
        folder = directory if not number else directory / f"{number + 1}-{evidence.lab}"
        account, fault = _account(evidence, folder, labs.since_ns)
        sections = {
            "topology": evidence.network,
            "middleboxes": evidence.middleboxes,
            "captures": fault or str(account),
        }
        report.sections += [(f"testbed {name}", text) for name, text in sections.items() if text]
        for file in account.files:
            _add_property(item, report, "testbed_capture", str(file))
        if item.config.pluginmanager.hasplugin("html"):
            extras = getattr(report, "extras", [])
            report.extras = [*extras, *_extras(evidence, account)]  # type: ignore[attr-defined]
        evidence.close()


def _account(evidence: Evidence, folder: Path, since_ns: int) -> tuple[Account, str]:
    """What the captures tell; the second says why they could not be kept."""
    if not evidence.captures:
        return Account(), ""
    try:
        return describe(keep(evidence.captures, folder), since_ns), ""
    except OSError as error:
        why = error.strerror or str(error)
        return Account(), f"The captures could not be kept in {folder}: {why}."


def _add_property(item: pytest.Item, report: pytest.TestReport, name: str, value: str) -> None:
    """Into the `properties` of JUnit's XML, which come from the report of the tear-down."""
    if (name, value) not in item.user_properties:
        item.user_properties.append((name, value))
        report.user_properties = list(item.user_properties)


def _extras(evidence: Evidence, account: Account) -> Iterator[dict[str, object]]:
    from pytest_html import extras

    for file in account.files:
        yield extras.url(file.as_uri(), name=file.name)
    if account.ladder:
        yield extras.text(account.ladder, name="ladder")
    yield extras.text(evidence.network, name="topology")
    if evidence.middleboxes:
        yield extras.text(evidence.middleboxes, name="middleboxes")


def _directory(item: pytest.Item) -> Path:
    base = item.config.getoption(KEEP) or DIRECTORY
    return item.config.rootpath / base / directory_name(item.nodeid)
