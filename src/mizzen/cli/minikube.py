"""Answers for the minikube commands that tutorials use; the shim `minikube` leads here."""

from __future__ import annotations

import click

from mizzen.cli import exits, talk
from mizzen.cli.cluster import delete_cluster, start_cluster, stop_cluster
from mizzen.cli.clusters import name_option, running_cluster
from mizzen.cli.groups import Group
from mizzen.cli.url import url_of


@click.group(cls=Group)
def command() -> None:
    """What minikube would answer, for this cluster."""


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@name_option
def start(flags: tuple[str, ...], name: str) -> None:
    """Start the cluster. Sizes and drivers have no meaning here: there is no VM."""
    if flags:
        talk.say(f"not needed here, there is no VM: {' '.join(flags)}")
    start_cluster(name)
    talk.say(f'Done! kubectl is now configured to use "{name}"')


@command.command()
@name_option
def stop(name: str) -> None:
    """Stop the cluster."""
    stop_cluster(name)


@command.command()
@click.option("--all", "every", is_flag=True, hidden=True)
@click.option("--purge", is_flag=True, hidden=True)
@name_option
def delete(every: bool, purge: bool, name: str) -> None:
    """Delete the cluster."""
    delete_cluster(name)


@command.command()
@name_option
def ip(name: str) -> None:
    """The address on which NodePorts answer."""
    click.echo(running_cluster(name).address)


@command.command()
@name_option
def status(name: str) -> None:
    """What runs, in minikube's words."""
    from mizzen.embedded.clusters import status as cluster_status

    state = "Running" if cluster_status(name).state == "Running" else "Stopped"
    configured = "Configured" if state == "Running" else "Stopped"
    click.echo(
        f"{name}\ntype: Control Plane\nhost: {state}\nkubelet: {state}\napiserver: {state}\nkubeconfig: {configured}"
    )
    if state != "Running":
        raise click.exceptions.Exit(exits.FAILED)


@command.command()
@click.argument("service_name")
@click.option("--url", is_flag=True, help="Only print it (always the case here).")
@click.option("-n", "--namespace", default="default", show_default=True)
@name_option
def service(service_name: str, url: bool, namespace: str, name: str) -> None:
    """Where a Service answers."""
    click.echo(url_of(name, service_name, namespace))


@command.command()
def tunnel() -> None:
    """Nothing to do: LoadBalancer Services already have the cluster's address."""
    talk.say(
        "LoadBalancer Services already have an address here (`kubectl get services -A`); there is nothing to tunnel"
    )


@command.command()
def version() -> None:
    """Which minikube this is not."""
    from mizzen import __version__

    click.echo(f"mizzen {__version__}, answering for minikube")
