"""Keeps the box's nftables in step with NetworkPolicies and Pods. A Pod starts only once it is known here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from mizzen.embedded.box.addresses import DNS_ADDRESS
from mizzen.embedded.node.policy_table import PodEndpoint, World, pod_endpoint, table, without_rules
from mizzen.embedded.node.tables import keep_table
from mizzen.kube.api import JSON, WELL_KNOWN, Api, Resource
from mizzen.kube.informer import Informer
from mizzen.kube.selectors import Labels
from mizzen.nftables.families import IPV4, Family
from mizzen.nftables.ruleset import Table

log = logging.getLogger(__name__)

NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
_DNS = PodEndpoint("kube-system", {"k8s-app": "kube-dns"}, (DNS_ADDRESS,), {"dns": (17, 53), "dns-tcp": (6, 53)})
"""The cluster's DNS is no Pod here; policies name the one that it would be elsewhere."""


class Policies:
    """`admit` each Pod before its first container starts; tell of its `changed` labels and when it `left`."""

    def __init__(self, api: Api, families: Sequence[Family] = (IPV4,)) -> None:
        self._families = families
        self._policies = Informer(api, NETWORK_POLICIES)
        self._namespaces = Informer(api, WELL_KNOWN.namespaces)
        self._pods: dict[str, PodEndpoint] = {}
        self._changed = asyncio.Event()
        self._asked = self._written = 0
        """How often something changed, and how much of it the kernel knows."""
        self._news = asyncio.Condition()
        self._complete = asyncio.Event()
        for informer in (self._policies, self._namespaces):
            informer.subscribe(lambda _: self._touch())

    async def run(self) -> None:
        """Until cancelled, in the box's network namespace. Raises OSError when the table cannot be written at all.

        What an earlier node wrote stays until the Pods that it left running are `complete` here.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policies.run())
            tasks.create_task(self._namespaces.run())
            await self._policies.wait_synced()
            await self._namespaces.wait_synced()
            await self._complete.wait()
            await keep_table(self._wanted, self._changed, self._committed)

    def complete(self) -> None:
        """Every Pod that runs already has been made `known`."""
        self._complete.set()

    def known(self, pod: JSON, addresses: tuple[str, ...]) -> None:
        """A Pod that runs already."""
        self._set(pod, addresses)

    async def admit(self, pod: JSON, addresses: tuple[str, ...]) -> None:
        """Returns when every policy about the Pod holds."""
        self._set(pod, addresses)
        asked = self._asked
        async with self._news:
            await self._news.wait_for(lambda: self._written >= asked)

    def changed(self, pod: JSON) -> None:
        known = self._pods.get(pod["metadata"]["uid"])
        if known:
            self._set(pod, known.addresses)

    def left(self, uid: str) -> None:
        if self._pods.pop(uid, None):
            self._touch()

    def _set(self, pod: JSON, addresses: tuple[str, ...]) -> None:
        endpoint = pod_endpoint(pod, addresses)
        if self._pods.get(pod["metadata"]["uid"]) != endpoint:
            self._pods[pod["metadata"]["uid"]] = endpoint
            self._touch()

    def _touch(self) -> None:
        self._asked += 1
        self._changed.set()

    def _wanted(self) -> tuple[Table, int]:
        namespaces = {name: obj["metadata"].get("labels") or {} for (_, name), obj in self._namespaces.objects.items()}
        pods = [_DNS, *self._pods.values()]
        policies = [_understood(policy, namespaces, pods) for policy in self._policies.objects.values()]
        return table(World(policies, namespaces, pods, self._families)), self._asked

    async def _committed(self, asked: int) -> None:
        async with self._news:
            self._written = asked
            self._news.notify_all()


def _understood(policy: JSON, namespaces: Mapping[str, Labels], pods: Sequence[PodEndpoint]) -> JSON:
    """The policy; or its isolation alone, should something that is no address have come past the API."""
    try:
        table(World([policy], namespaces, pods))
    except ValueError as error:
        metadata = policy["metadata"]
        log.error("NetworkPolicy %s/%s allows nothing: %s", metadata["namespace"], metadata["name"], error)
        return without_rules(policy)
    return policy
