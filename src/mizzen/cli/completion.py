"""`mizzen completion SHELL`: the script that gives a shell tab completion, also for the shim `istioctl`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mizzen.cli import exits

_BOTH = {
    "bash": ("-F _mizzen_completion mizzen", "-F _mizzen_completion mizzen istioctl"),
    "zsh": ("compdef _mizzen_completion mizzen", "compdef _mizzen_completion mizzen istioctl"),
    "fish": ("--command mizzen", "--command mizzen --command istioctl"),
}


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Tab completion.

    \b
    bash: source <(mizzen completion bash)
    zsh:  source <(mizzen completion zsh)
    fish: mizzen completion fish | source
    """
    from mizzen.cli.main import command as root

    completion = get_completion_class(shell)
    if completion is None:
        raise exits.Failure(f"no completion for {shell}")
    script = completion(root, {}, "mizzen", "_MIZZEN_COMPLETE").source()
    click.echo(script.replace(*_BOTH[shell]))
