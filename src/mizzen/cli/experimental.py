"""Verbs that istioctl keeps under `x`."""

from __future__ import annotations

import click

from mizzen.cli import exits
from mizzen.cli.groups import Group


@click.group(cls=Group)
def command() -> None:
    """Verbs that istioctl keeps under x."""


@command.group(cls=Group)
def authz() -> None:
    """Authorization policies."""


@authz.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(arguments: tuple[str, ...]) -> None:
    """Which AuthorizationPolicies a Pod enforces: not served yet."""
    raise exits.Failure(
        "authorization is not served yet: AuthorizationPolicy is refused, so no Pod enforces any",
        "docs/differences.md says what is there and what is not",
    )
