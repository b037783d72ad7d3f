"""`mizzen uninstall --purge`: the mesh out of the cluster."""

from __future__ import annotations

import click

from mizzen.cli import exits, talk
from mizzen.cli.options import Where, where, with_api


@click.command()
@click.option("--purge", is_flag=True, help="Everything, custom resource definitions and user resources included.")
@click.option("-y", "--skip-confirmation", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@where
def command(purge: bool, skip_confirmation: bool, dry_run: bool, where: Where) -> None:
    """Remove the mesh from the cluster; the namespace istio-system stays."""
    from mizzen.install.apply import uninstall

    if not purge:
        raise exits.Failure(
            "at least one of the --revision (or --set revision=<revision>), --filename or --purge flags must be set",
            "revisions are not served yet; --purge removes everything",
        )
    talk.say("All Istio resources will be pruned from the cluster")
    if not (skip_confirmation or dry_run):
        talk.confirm("Proceed?")
    with talk.working("Uninstalling") as say:
        with_api(where, lambda api: uninstall(api, say, dry_run=dry_run))
    if dry_run:
        talk.say("This was a dry run: nothing was removed")
