"""`mizzen up`: the cluster, and the mesh in it."""

from __future__ import annotations

import click

from mizzen.cli import talk
from mizzen.cli.cluster import start_cluster
from mizzen.cli.clusters import name_option, with_cluster
from mizzen.cli.install import install_options, options_of


def bring_up(name: str, sets: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> None:
    """Cluster and mesh, whatever of them runs already. The profile is demo unless said otherwise."""
    from mizzen.install.apply import install

    options = options_of(("profile=demo", *sets), names)
    start_cluster(name)
    with talk.working("Installing the mesh") as say:
        with_cluster(name, lambda api: install(api, options, say))


@click.command()
@install_options
@name_option
def command(sets: tuple[str, ...], names: tuple[str, ...], name: str) -> None:
    """Start the cluster and install the mesh (profile demo unless --set profile=… says otherwise)."""
    bring_up(name, sets, names)
    talk.say('Next: eval "$(mizzen env)" and kubectl get pods -A; mizzen demo adds Bookinfo.')
