"""`mizzen proxy-config SUB POD`: what a proxy runs with, in Istio's columns; as JSON or YAML in Envoy's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from mizzen.cli import exits, files, proxy_tables, render
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi

JSON: TypeAlias = dict[str, Any]
R = TypeVar("R")
Question: TypeAlias = "Callable[[HttpApi, str, str], Any]"


def subject(function: Callable[..., R]) -> Callable[..., R]:
    """The proxy: `[TYPE/]NAME[.NAMESPACE]`, or a saved dump. The verb gets `ask`, which answers a question about it."""

    def with_ask(proxy: str | None, file: str | None, where: Where, **options: Any) -> R:
        return function(ask=lambda question: answer(question, proxy, file, where), **options)

    with_ask.__doc__ = function.__doc__
    with_ask.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated = where(render.output(with_ask))
    decorated = click.option("-f", "--file", metavar="FILE", help="A saved /config_dump; - is standard input.")(
        decorated
    )
    return click.argument("proxy", required=False)(decorated)


Ask: TypeAlias = Callable[[Question], JSON]


def answer(question: Question, proxy: str | None, file: str | None, where: Where) -> JSON:
    if file:
        return saved(file)
    if not proxy:
        raise exits.Failure("no proxy named", "mizzen proxy-config routes deployment/productpage-v1", exits.USAGE)

    async def asked(api: HttpApi) -> JSON:
        from mizzen.cli.pods import proxied_pod

        namespace, pod = await proxied_pod(api, proxy, where)
        return dict(await question(api, namespace, pod))

    return with_api(where, asked)


def saved(file: str) -> JSON:
    text = next(text for _, text in files.texts([file]))
    try:
        dump = json.loads(text)
    except ValueError as error:
        raise exits.Failure(f"{file} is not JSON: {error}", SAVE, exits.UNPARSABLE) from error
    if not isinstance(dump, dict) or not {"configs", "cluster_statuses"} & dump.keys():
        raise exits.Failure(f"{file} is not a config dump", SAVE, exits.UNPARSABLE)
    return dump


SAVE = "Envoy's admin page gives one at /config_dump (endpoints: /clusters?format=json)"


def matching(messages: Iterable[JSON], rows_of: Callable[[JSON], Iterable[Any]], rows: Sequence[Any]) -> list[JSON]:
    """The messages that any of the rows comes from."""
    chosen = set(rows)
    return [message for message in messages if not chosen.isdisjoint(rows_of(message))]


@click.group(cls=Group)
def command() -> None:
    """What a proxy was told: a POD, deployment/NAME or service/NAME, or -f with a saved /config_dump.

    \b
    mizzen proxy-config clusters deployment/productpage-v1
    mizzen pc routes productpage-v1-54bb874995-lcmsb.default --name 9080
    mizzen pc listeners deploy/istio-ingressgateway.istio-system -o json
    """


command.later = dict.fromkeys(
    ("secret", "secrets", "s", "log", "ecds", "eds", "rootca-compare"),
    "served: clusters, listeners, routes, endpoints, bootstrap, all",
)


@command.command("cluster")
@subject
@click.option("--fqdn", default="", help="Only clusters of hosts that contain this.")
@click.option("--direction", default="", help="inbound or outbound.")
@click.option("--subset", default="", help="Only this subset.")
@click.option("--port", type=int, help="Only this port.")
def cluster(ask: Ask, form: str, fqdn: str, direction: str, subset: str, port: int | None) -> None:
    """Clusters: which services the proxy knows."""
    from mizzen.explain import proxy_config as explain

    dump = ask(explain.config_dump)
    rows = [
        row
        for row in explain.clusters(dump)
        if fqdn in row.fqdn and direction in row.direction and subset in ("", row.subset) and port in (None, row.port)
    ]
    messages = matching(explain.cluster_messages(dump), lambda one: [explain.cluster_row(one)], rows)
    proxy_tables.clusters(form, messages, rows)


@command.command("listener")
@subject
@click.option("--address", default="", help="Only listeners on this address.")
@click.option("--port", type=int, help="Only this port.")
@click.option("--type", "kind", default="", help="HTTP, TCP or HTTP+TCP.")
@click.option("--verbose/--no-verbose", default=True, help="A line for every filter chain.")
def listener(ask: Ask, form: str, address: str, port: int | None, kind: str, verbose: bool) -> None:
    """Listeners: where the proxy accepts, and what it does with it."""
    from mizzen.explain import proxy_config as explain

    dump = ask(explain.config_dump)
    rows = [
        row
        for row in explain.listeners(dump)
        if address in row.addresses and port in (None, row.port) and kind.upper() in ("", row.type)
    ]
    messages = matching(explain.listener_messages(dump), explain.listener_rows, rows)
    proxy_tables.listeners(form, messages, rows, verbose=verbose)


@command.command("route")
@subject
@click.option("--name", default="", help="Only this route table, for example 9080.")
def route(ask: Ask, form: str, name: str) -> None:
    """Routes: which request goes where, and which VirtualService said so."""
    from mizzen.explain import proxy_config as explain

    dump = ask(explain.config_dump)
    rows = [row for row in explain.routes(dump) if name in ("", row.name)]
    proxy_tables.routes(form, matching(explain.route_messages(dump), explain.route_rows, rows), rows)


@command.command("endpoint")
@subject
@click.option("--address", default="", help="Only this address.")
@click.option("--port", type=int, help="Only this port.")
@click.option("--cluster", "name", default="", help="Only endpoints of clusters that contain this.")
@click.option("--status", default="", help="HEALTHY, UNHEALTHY …")
def endpoint(ask: Ask, form: str, address: str, port: int | None, name: str, status: str) -> None:
    """Endpoints: the addresses behind each cluster, and their health."""
    from mizzen.explain import proxy_config as explain

    statuses = ask(explain.cluster_statuses)
    rows = [
        row
        for row in explain.endpoints(statuses)
        if address in row.endpoint
        and (port is None or row.endpoint.endswith(f":{port}"))
        and name in row.cluster
        and status.upper() in ("", row.status)
    ]
    messages = matching(statuses.get("cluster_statuses", ()), explain.endpoint_rows, rows)
    proxy_tables.endpoints(form, messages, rows)


@command.command("secret")
@subject
def secret(ask: Ask, form: str) -> None:
    """Certificates: which the proxy shows, which authorities it trusts, and until when. Never a key."""
    from datetime import UTC, datetime

    from mizzen.explain.proxy_config import config_dump
    from mizzen.explain.proxy_secrets import secrets

    proxy_tables.secrets(form, secrets(ask(config_dump), datetime.now(UTC)))


@command.command("bootstrap")
@subject
def bootstrap(ask: Ask, form: str) -> None:
    """What the proxy was started with; always JSON or YAML."""
    from mizzen.explain import proxy_config as explain

    found = explain.bootstrap(ask(explain.config_dump))
    click.echo(render.as_yaml(found) if form == "yaml" else render.as_json(found))


@command.command("all")
@subject
def everything(ask: Ask, form: str) -> None:
    """Clusters, listeners, routes and endpoints; as JSON or YAML the whole dump."""
    from mizzen.explain import proxy_config as explain

    dump = ask(explain.config_dump)
    if form != "table":
        render.show(form, dump, (), ())
        return
    proxy_tables.clusters(form, [], explain.clusters(dump))
    click.echo()
    proxy_tables.listeners(form, [], explain.listeners(dump))
    click.echo()
    proxy_tables.routes(form, [], explain.routes(dump))
    endpoints = explain.endpoints(ask(explain.cluster_statuses))
    if endpoints:
        click.echo()
        proxy_tables.endpoints(form, [], endpoints)


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
