"""`mizzen down`: stop everything and leave the machine clean."""

from __future__ import annotations

import click

from mizzen.cli.cluster import delete_cluster, stop_cluster
from mizzen.cli.clusters import name_option


@click.command()
@click.option("--delete", is_flag=True, help="Also forget the cluster's objects and take it out of the kubeconfig.")
@name_option
def command(delete: bool, name: str) -> None:
    """Stop the cluster: every process, namespace, mount and address goes; its objects stay for the next `mizzen up`."""
    (delete_cluster if delete else stop_cluster)(name)
