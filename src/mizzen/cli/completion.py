"""`mizzen completion SHELL`: the script that gives a shell tab completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mizzen.cli import exits


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Tab completion: `source <(mizzen completion bash)`."""
    from mizzen.cli.main import command as root

    completion = get_completion_class(shell)
    if completion is None:
        raise exits.Failure(f"no completion for {shell}")
    click.echo(completion(root, {}, "mizzen", "_MIZZEN_COMPLETE").source())
