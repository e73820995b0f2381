"""Commands about this machine: doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from testbed.cli.output import JsonOption, example, print_json, stdout_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table
    from rich.text import Text

    from testbed.doctor.findings import Feature, Finding

_FEATURES: dict[Feature, str] = {
    "emulation": "emulated links and middleboxes",
    "captures": "captures",
    "congestion-control": "congestion control of nodes",
    "containers": "containers",
}
_STYLES = {"ok": "green", "degraded": "yellow", "missing": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("doctor", epilog=example("testbed doctor"))(doctor)


def doctor(json: JsonOption = False) -> None:
    """Tell what this machine can do, what it cannot, and the command that mends it.

    The exit status is 1 when no lab can be built here.
    """
    from testbed.doctor.findings import judge, obstacles
    from testbed.doctor.probe import probe

    findings = judge(probe())
    stopped = obstacles(findings)
    if json:
        print_json({"labs": not stopped, "findings": findings})
    else:
        console = stdout_console()
        console.print(_table(findings))
        console.print(_verdict(findings))
    if stopped:
        raise typer.Exit(1)


def _verdict(findings: Sequence[Finding]) -> Text:
    from rich.text import Text

    from testbed.doctor.findings import obstacles

    if stopped := obstacles(findings):
        reasons = ", ".join(finding.what for finding in stopped)
        told = f"Labs cannot be built here: {reasons}.{_instead(stopped)}"
        return Text(told, style="bold red")
    lacking = [
        (means, finding)
        for feature, means in _FEATURES.items()
        for finding in obstacles(findings, feature)
    ]
    if lacking:
        without = ", ".join(f"{means} ({finding.what})" for means, finding in lacking)
        instead = _instead([finding for _, finding in lacking])
        told = f"Labs can be built here, but not with {without}.{instead}"
        return Text(told, style="bold yellow")
    return Text("Labs can be built here.", style="bold green")


def _instead(findings: Sequence[Finding]) -> str:
    """A sentence for each way around what is lacking, with a space before it."""
    ways = dict.fromkeys(finding.elsewhere for finding in findings if finding.elsewhere)
    return "".join(f" {way}." for way in ways)


def _table(findings: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("", "what", "found", "meaning and cure"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        advice = Text(finding.meaning)
        if finding.cure:
            advice.append("\n" if finding.meaning else "")
            advice.append(finding.cure, style="bold")
        table.add_row(
            Text(finding.state, style=_STYLES[finding.state]),
            Text(finding.what),
            Text(finding.found),
            advice,
        )
    return table
