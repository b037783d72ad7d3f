"""Verbs that istioctl keeps under `x`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from mizzen.cli import describe, exits, render
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi

JSON: TypeAlias = dict[str, Any]

ABOUT_MTLS = (
    "this shows policies; `mizzen tls-check` shows who speaks mTLS, and `mizzen proxy-config secret POD` the "
    "certificates that it is spoken with"
)


@click.group(cls=Group)
def command() -> None:
    """Verbs that istioctl keeps under x."""


command.add_command(describe.command, "describe")
command.alternatives = {"des": "describe"}


@command.group(cls=Group)
def authz() -> None:
    """Authorization policies."""


@authz.command()
@click.argument("workload", required=False, metavar="POD|TYPE/NAME")
@click.option("-f", "--file", "file", metavar="FILE", help="A saved /config_dump; - is standard input.")
@render.output
@where
def check(workload: str | None, file: str | None, form: str, where: Where) -> None:
    """Which AuthorizationPolicies a Pod enforces, as its own proxy says."""
    from mizzen.cli.proxy_config import saved
    from mizzen.explain.authorization import enforced_policies

    rows = enforced_policies(saved(file) if file else _dump(workload, where))
    cells = [(row.action, row.name, str(row.rules)) for row in rows]
    render.show(form, rows, ("ACTION", "AuthorizationPolicy", "RULES"), cells, padding=3)


def _dump(workload: str | None, where: Where) -> JSON:
    from mizzen.explain.authorization import pod_or_suggestion
    from mizzen.explain.proxy_config import config_dump
    from mizzen.kube.api import NotFound

    if not workload:
        raise exits.Failure("no Pod named", "mizzen x authz check deployment/productpage-v1", exits.USAGE)

    async def ask(api: HttpApi) -> JSON:
        try:
            namespace, pod = await pod_or_suggestion(api, workload, where.namespace or "default")
        except NotFound as error:
            raise exits.Failure(error.message, ABOUT_MTLS) from error
        return await config_dump(api, namespace, pod)

    return with_api(where, ask)
