"""`mizzen kube-inject -f FILE`: the same YAML, with sidecars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, files
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.inject.settings import Settings
    from mizzen.kube.http import HttpApi


@click.command()
@click.option("-f", "--filename", "names", multiple=True, required=True, help="YAML; a folder; - for standard input.")
@click.option("-o", "--output", "target", default="-", help="Where to write.")
@click.option("--meshConfigFile", "mesh_file", help="Mesh settings from a file instead of the cluster.")
@where
def command(names: tuple[str, ...], target: str, mesh_file: str | None, where: Where) -> None:
    """Add sidecars to YAML, without a webhook: `kubectl apply -f <(mizzen kube-inject -f app.yaml)`."""
    from mizzen.api.documents import NotYaml, load
    from mizzen.inject.annotations import InvalidAnnotation
    from mizzen.inject.documents import inject_document
    from mizzen.install.manifests import to_yaml

    settings = settings_of(where, mesh_file)
    documents = []
    for name, text in files.texts(names):
        try:
            documents += [inject_document(one.value, settings, where.namespace or "default") for one in load(text)]
        except NotYaml as error:
            place = f"{name}:{error.position.line}:{error.position.column}"
            raise exits.Failure(f"{place}: {error.message}", code=exits.UNPARSABLE) from error
        except InvalidAnnotation as error:
            raise exits.Failure(f"{name}: {error}") from error
    written = to_yaml(documents)
    if target == "-":
        click.echo(written, nl=False)
    else:
        Path(target).write_text(written)


def settings_of(where: Where, mesh_file: str | None) -> Settings:
    """What the cluster's ConfigMaps say, or a file, with the defaults of an installation for the rest."""
    from mizzen.inject.settings import read_settings

    if mesh_file:
        return read_settings(mesh=files.read(Path(mesh_file)), values="", policy="")

    async def from_cluster(api: HttpApi) -> Settings:
        from mizzen.kube.api import WELL_KNOWN, NotFound

        try:
            mesh = await api.get(WELL_KNOWN.configmaps, "istio", where.istio_namespace)
            injector = await api.get(WELL_KNOWN.configmaps, "istio-sidecar-injector", where.istio_namespace)
        except NotFound as error:
            raise exits.Failure(
                "no mesh is installed in this cluster", "`mizzen install -y` installs it; --meshConfigFile does without"
            ) from error
        return read_settings(
            mesh=mesh["data"]["mesh"], values=injector["data"]["values"], policy=injector["data"]["config"]
        )

    return with_api(where, from_cluster)
