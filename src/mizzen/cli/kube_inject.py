"""`mizzen kube-inject -f FILE`: the same YAML, with sidecars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from mizzen.cli import exits, files
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.inject.settings import Settings
    from mizzen.kube.api import JSON
    from mizzen.kube.http import HttpApi


@click.command()
@click.option("-f", "--filename", "names", multiple=True, required=True, help="YAML; a folder; - for standard input.")
@click.option("-o", "--output", "target", type=click.File("w"), default="-", help="Where to write.")
@click.option("--meshConfigFile", "mesh", metavar="FILE", help="Mesh settings from a file; no cluster is asked then.")
@click.option("--valuesFile", "values", metavar="FILE", help="Beside it: the injector's values.")
@click.option("--injectConfigFile", "policy", metavar="FILE", help="Beside it: the injector's policy.")
@where
def command(names: tuple[str, ...], target: TextIO, where: Where, **settings: str | None) -> None:
    """Add sidecars to YAML, without a webhook: `kubectl apply -f <(mizzen kube-inject -f app.yaml)`."""
    from mizzen.install.manifests import to_yaml

    chosen = settings_in(settings) if any(settings.values()) else settings_of(where)
    documents = [one for name, text in files.texts(names) for one in injected(name, text, chosen, where)]
    target.write(to_yaml(documents))


def injected(name: str, text: str, settings: Settings, where: Where) -> list[JSON]:
    """The documents of one file, those that make Pods with a sidecar. Raises Failure."""
    from mizzen.api.documents import NotYaml, load
    from mizzen.inject.annotations import InvalidAnnotation
    from mizzen.inject.documents import inject_document

    try:
        return [inject_document(one.value, settings, where.namespace or "default") for one in load(text)]
    except NotYaml as error:
        place = f"{name}:{error.position.line}:{error.position.column}"
        raise exits.Failure(
            f"{place}: {error.message}", f"`mizzen validate -f {name}` checks it", exits.UNPARSABLE
        ) from error
    except InvalidAnnotation as error:
        raise exits.Failure(f"{name}: {error}") from error


def settings_in(chosen: dict[str, str | None]) -> Settings:
    """From files, with the defaults of an installation for what has none."""
    from mizzen.api.decode import Undecodable
    from mizzen.inject.settings import read_settings

    texts = {part: files.read(Path(file)) if file else "" for part, file in chosen.items()}
    try:
        return read_settings(**texts)
    except Undecodable as error:
        given = ", ".join(file for file in chosen.values() if file)
        raise exits.Failure(
            f"{given}: {error}", "`mizzen manifest generate` prints the ConfigMaps", exits.UNPARSABLE
        ) from error


def settings_of(where: Where) -> Settings:
    """What the cluster's ConfigMaps say."""
    from mizzen.inject.settings import read_settings

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
