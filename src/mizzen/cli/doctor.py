"""`mizzen doctor`: what this machine lacks, each with the one line that cures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render
from mizzen.cli.clusters import name_option

if TYPE_CHECKING:
    from mizzen.embedded.doctor import Finding


@click.command()
@name_option
@render.output
def command(name: str, form: str) -> None:
    """Check this machine. Exit code 1 when something is missing."""
    from mizzen.embedded.doctor import examine

    findings = examine(name)
    if form != "table":
        render.show(form, findings, (), ())
    else:
        for finding in findings:
            click.echo(f"{_mark(finding)} {finding.check}: {finding.detail}")
            if finding.cure:
                click.echo(f"    {finding.cure}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(exits.FAILED)


def _mark(finding: Finding) -> str:
    if finding.warning:
        return "!"
    return "✔" if finding.ok else "✘"
