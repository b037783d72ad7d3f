"""`mizzen ca [root|rotate]`: who signs for the mesh, and how one root follows another."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.authority import AuthorityState
    from mizzen.kube.http import HttpApi

_DIGITS = 16
_POLL_SECONDS = 0.5
_NAMED = 3
HEADER = ["ROLE", "FINGERPRINT", "SUBJECT", "KEY", "NOT AFTER", "WORKLOADS"]


@click.group(cls=Group, invoke_without_command=True)
@render.output
@where
@click.pass_context
def command(ctx: click.Context, form: str, where: Where) -> None:
    """Who signs for the mesh, and whom it trusts."""
    if ctx.invoked_subcommand is None:
        show(with_api(where, lambda api: asked(api, where)), form)


@command.command()
@render.output
@where
def root(form: str, where: Where) -> None:
    """Every root that is trusted, what for, and how many workloads' certificates lead to it."""
    show(with_api(where, lambda api: asked(api, where)), form)


@command.command()
@click.option("--timeout", type=click.FloatRange(1), default=300.0, show_default=True, help="Seconds to watch.")
@click.option("--wait/--no-wait", default=True, help="Watch it to the end; it goes on by itself.")
@render.output
@where
def rotate(timeout: float, wait: bool, form: str, where: Where) -> None:
    """Let a new root follow the old one, without a request lost.

    It is trusted everywhere first, then it signs, then the old one is dropped. A rotation that is under way is watched.
    """
    found = with_api(where, lambda api: rotated(api, where, timeout if wait else 0.0))
    show(found, form)
    if wait and found.phase != "steady":
        raise exits.Failure(
            f"after {timeout:.0f} s the rotation is not over: {progress(found)}",
            "it goes on by itself; `mizzen ca` shows how far it is",
        )


async def asked(api: HttpApi, where: Where) -> AuthorityState:
    from mizzen.explain.authority import authority
    from mizzen.kube.api import NotFound

    try:
        return await authority(api, where.istio_namespace)
    except NotFound as error:
        raise exits.Failure(
            str(error), "`mizzen install -y` installs the mesh; `mizzen status` says what runs"
        ) from error


async def rotated(api: HttpApi, where: Where, seconds: float) -> AuthorityState:
    """The state after a rotation, or after so many seconds. Raises Failure where the authority is not istiod's own."""
    from mizzen.explain.authority import SELF_SIGNED, ask_for_a_new_root

    before = await asked(api, where)
    if before.source != SELF_SIGNED:
        raise exits.Failure(
            f"the mesh's authority is plugged in: it comes from Secret {before.source} in {where.istio_namespace}",
            "write the next authority into that Secret: the mesh follows, and `mizzen ca` shows how far it is",
        )
    if before.phase == "steady":
        await ask_for_a_new_root(api, where.istio_namespace)
    give_up, told = time.monotonic() + seconds, ""
    while True:
        found = await asked(api, where)
        done = found.phase == "steady" and (found.signer != before.signer or before.phase != "steady")
        if (line := "✔ only the new root is trusted" if done else progress(found)) != told:
            talk.say(line)
            told = line
        if done or time.monotonic() >= give_up:
            return found
        await asyncio.sleep(_POLL_SECONDS)


def progress(state: AuthorityState) -> str:
    """What the phase waits for."""
    named = ", ".join(state.waits_for_pods[:_NAMED]) + (", …" if state.waits_for > _NAMED else "")
    waits = f"; waiting for {state.waits_for} of {state.proxies} workloads ({named})" if state.waits_for else ""
    match state.phase:
        case "spreading":
            return f"the new root is trusted beside the old one{waits}"
        case "retiring":
            return f"the new root signs{waits}"
        case _:
            return "a new root is being made"


def show(state: AuthorityState, form: str) -> None:
    rows = [
        [one.role, one.fingerprint[:_DIGITS], one.subject, one.key, one.not_after[:10], str(one.workloads)]
        for one in state.roots
    ]
    render.show(form, state, HEADER, rows, padding=3)
    if form == "table" and state.phase != "steady":
        talk.say(progress(state))
    if state.problem:
        talk.warn(state.problem)
