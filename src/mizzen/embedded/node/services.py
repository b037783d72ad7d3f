"""Keeps the box's nftables in step with Services and EndpointSlices: what kube-proxy does on a real node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mizzen.embedded.box.addresses import API_ADDRESS, DNS_ADDRESS
from mizzen.embedded.node.service_table import service_ports, state_of, table
from mizzen.embedded.node.tables import keep_table
from mizzen.kube.api import WELL_KNOWN, Api
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import same_revision
from mizzen.nftables.families import IPV4, Family
from mizzen.nftables.ruleset import Table

_OWN_ADDRESSES = frozenset({API_ADDRESS, DNS_ADDRESS})


async def run_services(
    api: Api, *, own_addresses: frozenset[str] = _OWN_ADDRESSES, families: Sequence[Family] = (IPV4,)
) -> None:
    """Runs until cancelled, in the box's network namespace. Raises OSError when the first table cannot be written."""
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
        await keep_table(lambda: (_wanted(services, slices, own_addresses, families), None), changed, _nobody_waits)


def _wanted(services: Informer, slices: Informer, own_addresses: frozenset[str], families: Sequence[Family]) -> Table:
    known, behind = services.objects.values(), slices.objects.values()
    return table(*(state_of(service_ports(known, behind, own_addresses, each), each) for each in families))


async def _nobody_waits(_: None) -> None:
    """Connections find what is there."""
