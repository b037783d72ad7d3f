"""`mizzen proxy-config SUB POD`: what a proxy runs with, in Istio's columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from mizzen.cli import exits, render
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.proxy_config import ClusterRow, EndpointRow, ListenerRow, RouteRow
    from mizzen.kube.http import HttpApi

JSON: TypeAlias = dict[str, Any]
R = TypeVar("R")


def subject(function: Callable[..., R]) -> Callable[..., R]:
    """The proxy: `[TYPE/]NAME[.NAMESPACE]`, or a saved config dump."""
    function = where(render.output(function))
    function = click.option("-f", "--file", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True))(
        function
    )
    return click.argument("proxy", required=False)(function)


@click.group()
def command() -> None:
    """What a proxy was told: a POD, deployment/NAME or service/NAME, or -f with a saved /config_dump."""


def dump_of(proxy: str | None, file: Path | None, where: Where) -> JSON:
    from mizzen.explain.proxy_config import config_dump

    if file:
        return dict(json.loads(file.read_text()))
    return asked(proxy, where, config_dump)


def asked(proxy: str | None, where: Where, question: Callable[[HttpApi, str, str], Any]) -> JSON:
    """The answer of a running proxy."""
    if not proxy:
        raise exits.Failure("no proxy named", "mizzen proxy-config routes deployment/productpage-v1", exits.USAGE)

    async def ask(api: HttpApi) -> JSON:
        from mizzen.explain.reach import find_pod

        namespace, pod = await find_pod(api, proxy, where.namespace or "default")
        return dict(await question(api, namespace, pod))

    return with_api(where, ask)


@command.command("cluster")
@subject
@click.option("--fqdn", default="", help="Only clusters of hosts that contain this.")
@click.option("--direction", default="", help="inbound or outbound.")
@click.option("--subset", default="")
@click.option("--port", type=int)
def cluster(
    proxy: str | None,
    file: Path | None,
    form: str,
    where: Where,
    fqdn: str,
    direction: str,
    subset: str,
    port: int | None,
) -> None:
    """Clusters: which services the proxy knows."""
    from mizzen.explain.proxy_config import clusters

    rows = [
        row
        for row in clusters(dump_of(proxy, file, where))
        if fqdn in row.fqdn and direction in row.direction and subset in row.subset and port in (None, row.port)
    ]
    show_clusters(form, rows)


def show_clusters(form: str, rows: list[ClusterRow]) -> None:
    header = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
    cells = [(row.fqdn, str(row.port or ""), row.subset, row.direction, row.type, row.destination_rule) for row in rows]
    render.show(form, rows, header, cells)


@command.command("listener")
@subject
@click.option("--address", default="")
@click.option("--port", type=int)
@click.option("--type", "kind", default="", help="HTTP, TCP or HTTP+TCP.")
@click.option("--verbose/--no-verbose", default=True)
def listener(
    proxy: str | None,
    file: Path | None,
    form: str,
    where: Where,
    address: str,
    port: int | None,
    kind: str,
    verbose: bool,
) -> None:
    """Listeners: where the proxy accepts, and what it does with it."""
    from mizzen.explain.proxy_config import listeners

    rows = [
        row
        for row in listeners(dump_of(proxy, file, where))
        if address in row.addresses and port in (None, row.port) and kind in ("", row.type)
    ]
    show_listeners(form, rows, verbose)


def show_listeners(form: str, rows: list[ListenerRow], verbose: bool = True) -> None:
    if verbose:
        header = ["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
        cells = [[row.addresses, str(row.port), row.match, row.destination] for row in rows]
    else:
        header = ["ADDRESSES", "PORT", "TYPE"]
        cells = [list(one) for one in dict.fromkeys((row.addresses, str(row.port), row.type) for row in rows)]
    render.show(form, rows, header, cells, padding=1)


@command.command("route")
@subject
@click.option("--name", default="", help="Only this route table, for example 9080.")
def route(proxy: str | None, file: Path | None, form: str, where: Where, name: str) -> None:
    """Routes: which request goes where, and which VirtualService said so."""
    from mizzen.explain.proxy_config import routes

    show_routes(form, [row for row in routes(dump_of(proxy, file, where)) if name in ("", row.name)])


def show_routes(form: str, rows: list[RouteRow]) -> None:
    header = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
    cells = [(row.name, row.virtual_host, row.domains, row.match, row.virtual_service) for row in rows]
    render.show(form, rows, header, cells)


@command.command("endpoint")
@subject
@click.option("--address", default="")
@click.option("--port", default="")
@click.option("--cluster", "name", default="", help="Only endpoints of clusters that contain this.")
@click.option("--status", default="", help="HEALTHY, UNHEALTHY …")
def endpoint(
    proxy: str | None,
    file: Path | None,
    form: str,
    where: Where,
    address: str,
    port: str,
    name: str,
    status: str,
) -> None:
    """Endpoints: the addresses behind each cluster, and their health."""
    from mizzen.explain.proxy_config import cluster_statuses, endpoints

    statuses = json.loads(file.read_text()) if file else asked(proxy, where, cluster_statuses)
    rows = [
        row
        for row in endpoints(statuses)
        if address in row.endpoint
        and row.endpoint.endswith(f":{port}" if port else "")
        and name in row.cluster
        and status.upper() in ("", row.status)
    ]
    show_endpoints(form, rows)


def show_endpoints(form: str, rows: list[EndpointRow]) -> None:
    header = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")
    render.show(form, rows, header, [(row.endpoint, row.status, row.outlier_check, row.cluster) for row in rows])


@command.command("secret")
@subject
def secret(proxy: str | None, file: Path | None, form: str, where: Where) -> None:
    """Certificates: which the proxy shows, which authorities it trusts, and until when. Never a key."""
    from datetime import UTC, datetime

    from mizzen.explain.proxy_secrets import secrets

    rows = secrets(dump_of(proxy, file, where), datetime.now(UTC))
    header = ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]
    cells = [
        [
            row.name,
            row.type,
            row.status,
            "" if row.valid is None else str(row.valid).lower(),
            row.serial_number,
            row.not_after,
            row.not_before,
        ]
        for row in rows
    ]
    render.show(form, rows, header, cells, padding=5)


@command.command("bootstrap")
@subject
def bootstrap(proxy: str | None, file: Path | None, form: str, where: Where) -> None:
    """What the proxy was started with; always JSON or YAML."""
    from mizzen.explain.proxy_config import bootstrap as bootstrap_of

    found = bootstrap_of(dump_of(proxy, file, where))
    click.echo(render.as_yaml(found) if form == "yaml" else render.as_json(found))


@command.command("all")
@subject
def everything(proxy: str | None, file: Path | None, form: str, where: Where) -> None:
    """Clusters, listeners, routes and endpoints."""
    from mizzen.explain import proxy_config as explain

    dump = dump_of(proxy, file, where)
    statuses = {} if file else asked(proxy, where, explain.cluster_statuses)
    parts = {
        "clusters": explain.clusters(dump),
        "listeners": explain.listeners(dump),
        "routes": explain.routes(dump),
        "endpoints": explain.endpoints(statuses),
    }
    if form != "table":
        render.show(form, parts, (), ())
        return
    show_clusters(form, explain.clusters(dump))
    click.echo()
    show_listeners(form, explain.listeners(dump))
    click.echo()
    show_routes(form, explain.routes(dump))
    if not file:
        click.echo()
        show_endpoints(form, explain.endpoints(statuses))


for alias, original in {
    "clusters": cluster,
    "c": cluster,
    "listeners": listener,
    "l": listener,
    "routes": route,
    "r": route,
    "endpoints": endpoint,
    "ep": endpoint,
    "secrets": secret,
    "s": secret,
    "b": bootstrap,
    "a": everything,
}.items():
    hidden = click.Command(alias, callback=original.callback, params=original.params, help=original.help, hidden=True)
    command.add_command(hidden)
