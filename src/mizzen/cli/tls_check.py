"""`mizzen tls-check`: who talks to whom, in mutual TLS or in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.tls_check import Mode, TlsRow
    from mizzen.kube.http import HttpApi

HEADER = ("CLIENT", "SERVER", "OBSERVED", "POLICY", "VERDICT")


@click.command()
@click.option(
    "--if",
    "what_if",
    type=click.Choice(["STRICT", "PERMISSIVE", "DISABLE"], case_sensitive=False),
    help="Which of the observed callers this mode, for the whole mesh, would break. Exit code 79 when there are any.",
)
@click.option("--window", type=click.FloatRange(min=0), metavar="SECONDS", help="Only what is called in that time.")
@render.output
@where
def command(what_if: Mode | None, window: float | None, form: str, where: Where) -> None:
    """Who talks to whom, in mutual TLS or in plain text, observed and by policy.

    Proxies count what was called since they started: requests, or connections of other protocols. POLICY is what
    DestinationRules and PeerAuthentications make the caller speak, and what the server takes.

    \b
    mizzen tls-check -n default
    mizzen tls-check --if STRICT
    """
    from mizzen.explain.tls_check import breaking

    rows, failures, bare = with_api(where, lambda api: examine(api, what_if, window, where))
    cells = [(row.client, row.server, row.observed.text, f"{row.speaks} to {row.takes}", said(row)) for row in rows]
    render.show(form, rows, HEADER, cells, padding=3)
    for failure in failures:
        talk.warn(failure)
    if what_if == "STRICT" and bare:
        talk.say(f"without a sidecar, so that whatever they call is plain text: {', '.join(bare)}")
    broken = breaking(rows)
    for row in broken:
        talk.say(f"would break: {row.client} → {row.server} ({row.observed.text})")
    if broken:
        raise click.exceptions.Exit(exits.FINDINGS)


async def examine(
    api: HttpApi, what_if: Mode | None, window: float | None, where: Where
) -> tuple[list[TlsRow], list[str], list[str]]:
    """Rows, what could not be asked, and workloads without a sidecar."""
    import asyncio

    from mizzen.explain.encryption import readings
    from mizzen.explain.snapshots import snapshot
    from mizzen.explain.tls_check import missing_sidecars, proxied, tls_check

    mesh = await snapshot(api, where.istio_namespace)
    before = []
    if window is not None:
        before = await readings(api, proxied(mesh))
        await asyncio.sleep(window)
        mesh = await snapshot(api, where.istio_namespace)
    now = await readings(api, proxied(mesh))
    rows = [row for row in tls_check(mesh, now, before, what_if) if concerns(row, where.namespace)]
    failures = [f"Pod {one.pod.name}.{one.pod.namespace} cannot be asked: {one.failure}" for one in now if one.failure]
    return rows, failures, list(missing_sidecars(mesh))


def concerns(row: TlsRow, namespace: str | None) -> bool:
    """Whether caller or server is of that namespace; None: every row."""
    names = (row.client, row.server.rpartition(":")[0])
    return namespace is None or any(name.partition(".")[2] == namespace for name in names)


def said(row: TlsRow) -> str:
    return f"{row.verdict}: {row.reason}" if row.reason else row.verdict
