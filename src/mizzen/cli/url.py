"""`mizzen url [SERVICE]`: where a Service answers from this machine."""

from __future__ import annotations

import click

from mizzen.cli import exits
from mizzen.cli.clusters import name_option, running_cluster, with_cluster
from mizzen.kube.api import JSON, WELL_KNOWN, NotFound

ALIASES = {"ingress": "istio-ingressgateway", "egress": "istio-egressgateway"}
HTTP_NAMES = ("http2", "http", "web")


def url_of(name: str, service: str, namespace: str) -> str:
    """`http://ADDRESS:NODEPORT` of the Service's HTTP port, or of its first. Raises Failure."""
    address = running_cluster(name).address
    try:
        found = with_cluster(name, lambda api: api.get(WELL_KNOWN.services, service, namespace))
    except NotFound as error:
        raise exits.Failure(
            f"no Service {service} in namespace {namespace}", "`kubectl get services -A` lists them"
        ) from error
    return f"http://{address}:{node_port(found)}"


def node_port(service: JSON) -> int:
    ports = [port for port in service["spec"].get("ports", ()) if port.get("nodePort")]
    if not ports:
        name = service["metadata"]["name"]
        raise exits.Failure(
            f"Service {name} has no node port", f"`kubectl port-forward service/{name} PORT` reaches it"
        )
    preferred = [port for port in ports if port.get("name") in HTTP_NAMES]
    return int((preferred or ports)[0]["nodePort"])


@click.command()
@click.argument("service", default="ingress")
@click.option("-n", "--namespace", default=None, help="Default: istio-system for gateways, else default.")
@name_option
def command(service: str, namespace: str | None, name: str) -> None:
    """Print where SERVICE answers (default: the ingress gateway)."""
    where = namespace or ("istio-system" if service in ALIASES or service in ALIASES.values() else "default")
    click.echo(url_of(name, ALIASES.get(service, service), where))
