"""Keeps the box's nftables in step with Services and EndpointSlices: what kube-proxy does on a real node."""

from __future__ import annotations

import asyncio
import logging

from mizzen.embedded.box.network import API_ADDRESS, DNS_ADDRESS
from mizzen.embedded.node.service_table import State, changes, service_ports, state_of, table
from mizzen.kube.api import WELL_KNOWN, Api
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import same_revision
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import Refused, commit

log = logging.getLogger(__name__)

_OWN_ADDRESSES = frozenset({API_ADDRESS, DNS_ADDRESS})
_RETRY_SECONDS = 1.0


async def run_services(api: Api, *, own_addresses: frozenset[str] = _OWN_ADDRESSES) -> None:
    """Runs until cancelled, in the box's network namespace. Raises OSError when the first table cannot be written.

    The first table replaces whatever an earlier node process left, in one step: connections that are under way are
    remembered by the kernel, and new ones find either the old table or the new one.
    """
    services = Informer(api, WELL_KNOWN.services, same=same_revision)
    slices = Informer(api, WELL_KNOWN.endpointslices)
    changed = asyncio.Event()
    for informer in (services, slices):
        informer.subscribe(lambda _: changed.set())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(services.run())
        tasks.create_task(slices.run())
        await services.wait_synced()
        await slices.wait_synced()
        await _follow(services, slices, changed, own_addresses)


async def _follow(services: Informer, slices: Informer, changed: asyncio.Event, own_addresses: frozenset[str]) -> None:
    """What changes while a batch is being committed goes into the next one."""
    changed.clear()
    written = _wanted(services, slices, own_addresses)
    await asyncio.to_thread(commit, replace_table(table(written)))
    while True:
        await changed.wait()
        changed.clear()
        wanted = _wanted(services, slices, own_addresses)
        await _write(written, wanted)
        written = wanted


def _wanted(services: Informer, slices: Informer, own_addresses: frozenset[str]) -> State:
    return state_of(service_ports(services.objects.values(), slices.objects.values(), own_addresses))


async def _write(written: State, wanted: State) -> None:
    """The difference; and the whole table where the difference does not fit, because someone else has been at it."""
    try:
        await asyncio.to_thread(commit, changes(written, wanted))
        return
    except Refused as error:
        log.warning("the table of Services is not as it was left and is written anew: %s", error)
    while True:
        try:
            await asyncio.to_thread(commit, replace_table(table(wanted)))
            return
        except OSError:
            log.exception("the table of Services cannot be written; trying again in %.0f s", _RETRY_SECONDS)
        await asyncio.sleep(_RETRY_SECONDS)
