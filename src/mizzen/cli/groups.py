"""Verbs with verbs inside: help when nothing is asked, a nearest word when something unknown is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import click

from mizzen.cli import exits


class Group(click.Group):
    """A click group that answers as istioctl's do. `later` are istioctl's verbs that come with a later release."""

    later: Mapping[str, str] = {}
    alternatives: Mapping[str, str] = {}
    """Other words for its verbs, not shown in help."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.alternatives.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            self.refuse(ctx, args[0])
        return super().resolve_command(ctx, args)

    def refuse(self, ctx: click.Context, word: str) -> NoReturn:
        import difflib

        path = ctx.command_path
        if word in self.later:
            raise exits.Failure(f"`{path} {word}` is not served yet", self.later[word], exits.USAGE)
        near = difflib.get_close_matches(word, self.list_commands(ctx), n=1)
        hint = f"did you mean `{path} {near[0]}`?" if near else f"`{path} --help` lists the commands"
        raise exits.Failure(f'unknown command "{word}" for "{path}"', hint, exits.USAGE)
