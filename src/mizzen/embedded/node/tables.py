"""Keeps one nftables table of the box as it is wanted, by its differences."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from mizzen.nftables.difference import changes
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import Refused, commit
from mizzen.nftables.ruleset import Table

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
T = TypeVar("T")


async def keep_table(
    wanted: Callable[[], tuple[Table, T]], changed: asyncio.Event, committed: Callable[[T], Awaitable[None]]
) -> NoReturn:
    """Until cancelled, in the box's network namespace. Raises OSError when the first table cannot be written.

    `wanted` gives the table and a note, which `committed` is handed once the kernel has that table. The first table
    replaces whatever an earlier node process left, in one step: connections that are under way are remembered by the
    kernel, and new ones find either the old table or the new one. What changes while a batch is being committed goes
    into the next one.
    """
    changed.clear()
    written, note = wanted()
    await asyncio.to_thread(commit, replace_table(written))
    await committed(note)
    while True:
        await changed.wait()
        changed.clear()
        table, note = wanted()
        await _write(written, table)
        await committed(note)
        written = table


async def _write(written: Table, wanted: Table) -> None:
    """The difference; and the whole table where the difference does not fit, because someone else has been at it."""
    try:
        await asyncio.to_thread(commit, changes(written, wanted))
        return
    except Refused as error:
        log.warning("the table %s is not as it was left and is written anew: %s", wanted.name, error)
    while True:
        try:
            await asyncio.to_thread(commit, replace_table(wanted))
            return
        except OSError:
            log.exception("the table %s cannot be written; trying again in %.0f s", wanted.name, _RETRY_SECONDS)
        await asyncio.sleep(_RETRY_SECONDS)
