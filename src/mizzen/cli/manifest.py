"""`mizzen manifest generate`: what install would apply, as YAML."""

from __future__ import annotations

from typing import TextIO

import click

from mizzen.cli.groups import Group
from mizzen.cli.install import install_options, options_of


@click.group(cls=Group)
def command() -> None:
    """The objects of an installation."""


@command.command()
@install_options
@click.option("-o", "--output", "target", type=click.File("w"), default="-", help="Where to write.")
def generate(target: TextIO, sets: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Print the YAML that `mizzen install` with the same flags would apply."""
    from mizzen.install.manifests import manifests, to_yaml

    target.write(to_yaml(manifests(options_of(sets, names))))
