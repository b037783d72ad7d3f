"""Verbs that istioctl keeps under `x`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from mizzen.cli import describe, exits, render
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.draining import Drained
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


@authz.command()
@click.argument("workload", metavar="POD|TYPE/NAME")
@click.option("--wait/--no-wait", default=True, help="Stay until the proxies have let go.")
@click.option("--timeout", type=click.FloatRange(min=0), default=90.0, show_default=True, metavar="SECONDS")
@render.output
@where
def drain(workload: str, wait: bool, timeout: float, form: str, where: Where) -> None:
    """End connections that began under older rules, of all Pods of a workload; what begins anew is not touched.

    An edit of a policy holds for every new request, connection and upgrade at once, and ends nothing that runs. This
    ends it: HTTP connections after the request that is under way, WebSockets and other streams when the proxy's drain
    time is over (proxyConfig.drainDuration, 45 s unless set). A policy with the annotation mizzen.io/drain: "true"
    does the same by itself at each of its edits. Exit code 1 when a proxy has not let go in time.
    """
    from mizzen.explain.authorization import meant
    from mizzen.explain.draining import ask_to_drain, watch_drain
    from mizzen.explain.reach import find_pods
    from mizzen.kube.api import NotFound

    async def ask(api: HttpApi) -> list[Drained]:
        own = where.namespace or "default"
        try:
            namespace, pods = await find_pods(api, workload, own)
        except NotFound as error:
            raise exits.Failure((await meant(api, error, workload, own)).message) from error
        begun = await ask_to_drain(api, namespace, pods)
        return await watch_drain(api, begun, timeout) if wait else begun

    rows = with_api(where, ask)
    cells = [(row.pod, str(row.connections), row.state) for row in rows]
    render.show(form, rows, ("POD", "CONNECTIONS", "STATE"), cells, padding=3)
    if wait and any(not row.done for row in rows):
        raise click.exceptions.Exit(exits.FAILED)


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
