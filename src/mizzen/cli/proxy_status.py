"""`mizzen proxy-status [POD]`: which proxies have what istiod wants them to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.proxy_status import ProxySync
    from mizzen.kube.http import HttpApi


@click.command()
@click.argument("pod", required=False)
@click.option("-v", "--verbosity", type=click.IntRange(0, 1), default=0, help="1: a column for each type.")
@render.output
@where
def command(pod: str | None, verbosity: int, form: str, where: Where) -> None:
    """Which proxies are in sync with the control plane. Exit code 1 when one refused something."""
    rows = with_api(where, lambda api: asked(api, where))
    if pod:
        rows = [row for row in rows if row.name == pod or row.name.startswith(f"{pod}.")]
        if not rows:
            raise exits.Failure(f"no proxy {pod!r} is connected", "`mizzen proxy-status` lists them")
    render.show(form, rows, *(by_type(rows) if verbosity else by_subscription(rows)))
    refused = [(row, one) for row in rows for one in row.refused]
    for row, one in refused:
        talk.warn(f"{row.name} refused {one.type} {one.name}: {one.message}")
    if refused:
        raise click.exceptions.Exit(exits.FAILED)


async def asked(api: HttpApi, where: Where) -> list[ProxySync]:
    from mizzen.explain.proxy_status import proxy_status
    from mizzen.kube.api import NotFound

    try:
        return await proxy_status(api, where.istio_namespace)
    except NotFound as error:
        raise exits.Failure(
            str(error), "`mizzen install -y` installs the mesh; `mizzen status` says what runs"
        ) from error


def by_subscription(rows: list[ProxySync]) -> tuple[list[str], list[list[str]]]:
    header = ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]
    return header, [[row.name, row.cluster, row.istiod, row.version, row.subscribed] for row in rows]


def by_type(rows: list[ProxySync]) -> tuple[list[str], list[list[str]]]:
    from mizzen.explain.proxy_status import TYPES

    types = sorted(TYPES)
    header = ["NAME", "CLUSTER", *types, "ISTIOD", "VERSION"]
    return header, [
        [row.name, row.cluster, *(row.types.get(one, "IGNORED") for one in types), row.istiod, row.version]
        for row in rows
    ]
