"""Puts the controllers together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from mizzen.embedded.controllers.claim_protection import ClaimProtection
from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.cronjobs import CronJobs
from mizzen.embedded.controllers.daemonsets import DaemonSets
from mizzen.embedded.controllers.deployments import Deployments
from mizzen.embedded.controllers.disruptions import Disruptions
from mizzen.embedded.controllers.ephemeral_volumes import EphemeralVolumes
from mizzen.embedded.controllers.garbage import Garbage
from mizzen.embedded.controllers.jobs import Jobs
from mizzen.embedded.controllers.leftovers import Leftovers
from mizzen.embedded.controllers.mirroring import Mirrors
from mizzen.embedded.controllers.namespaces import Beginnings, Endings
from mizzen.embedded.controllers.node_lifecycle import NodeLifecycle
from mizzen.embedded.controllers.objects import replicas
from mizzen.embedded.controllers.replicasets import ReplicaSets
from mizzen.embedded.controllers.scheduling import Scheduling
from mizzen.embedded.controllers.services import Services
from mizzen.embedded.controllers.statefulsets import StatefulSets
from mizzen.embedded.controllers.volumes import VOLUME_FOLDER, Volumes
from mizzen.embedded.controllers.worklist import Worklist, reconciling
from mizzen.kube.api import JSON, WELL_KNOWN, Api, Resource
from mizzen.kube.reflector import key_of

PATIENCE = 1.0
"""Seconds that the answer to a create may be held back."""


class Controllers:
    """`root_ca` (PEM) goes into every namespace; `load_balancer_addresses` are what LoadBalancer Services get."""

    def __init__(
        self,
        api: Api,
        *,
        root_ca: str,
        load_balancer_addresses: Sequence[str],
        volume_folder: str = VOLUME_FOLDER,
    ) -> None:
        cluster = self._cluster = Cluster(api)
        self._deployments, self._replica_sets = Deployments(cluster), ReplicaSets(cluster)
        self._stateful_sets, self._daemon_sets = StatefulSets(cluster), DaemonSets(cluster)
        self._jobs, self._cron_jobs = Jobs(cluster), CronJobs(cluster)
        self._services, self._mirrors = Services(cluster, load_balancer_addresses), Mirrors(cluster)
        self._beginnings, self._endings = Beginnings(cluster, root_ca), Endings(cluster)
        self._volumes, self._leftovers = Volumes(cluster, volume_folder), Leftovers(cluster)
        self._ephemeral_volumes, self._claim_protection = EphemeralVolumes(cluster), ClaimProtection(cluster)
        self._disruptions, self._node_lifecycle = Disruptions(cluster), NodeLifecycle(cluster)
        self._scheduling, self._garbage = Scheduling(cluster), Garbage(api)
        self._ready = asyncio.Event()
        services = self._services
        self._works: Mapping[Resource, Sequence[Worklist]] = {
            WELL_KNOWN.deployments: (self._deployments.work,),
            WELL_KNOWN.replicasets: (self._replica_sets.work,),
            WELL_KNOWN.statefulsets: (self._stateful_sets.work,),
            WELL_KNOWN.daemonsets: (self._daemon_sets.work,),
            WELL_KNOWN.jobs: (self._jobs.work,),
            WELL_KNOWN.namespaces: (self._beginnings.work,),
            WELL_KNOWN.services: (services.slices, services.endpoints, services.load_balancers),
        }
        """From whose creates something follows that clients expect at once, and who makes it."""

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._cluster.run())
                group.create_task(self._garbage.run())
                await self._cluster.wait_synced()
                for work in self._worklists():
                    work.start()
                self._ready.set()
        finally:
            await asyncio.gather(*(work.stop() for work in self._worklists()))

    async def wait_ready(self) -> None:
        """Returns when every collection was read once and work has begun."""
        await self._ready.wait()

    async def after_create(self, resource: Resource, obj: JSON) -> None:
        """Returns when what must exist right after the create of `obj` does: the Pods of a workload, the account of a
        namespace, the slices of a Service. Within a second in any case, and at once for a controller's own writes.

        `obj` is the stored object, as it was answered. For the API server to await before it answers a user.
        """
        if resource not in self._works or reconciling.get() or not self._ready.is_set():
            return
        try:
            async with asyncio.timeout(PATIENCE):
                self._cluster.written(resource, obj)
                await self._settle(resource, obj)
        except TimeoutError:
            return  # the work goes on

    async def _settle(self, resource: Resource, obj: JSON) -> None:
        key = key_of(obj)
        if resource == WELL_KNOWN.deployments:
            await self._settle_deployment(obj)
        elif resource == WELL_KNOWN.replicasets:
            await self._settle_replica_set(obj)
        else:
            await asyncio.gather(*(work.settled(key) for work in self._works[resource]))

    async def _settle_deployment(self, obj: JSON) -> None:
        if not self._cluster.controlled(WELL_KNOWN.replicasets, obj):
            await self._deployments.work.settled(key_of(obj))
        sets = self._cluster.controlled(WELL_KNOWN.replicasets, obj)
        await asyncio.gather(*map(self._settle_replica_set, sets))

    async def _settle_replica_set(self, obj: JSON) -> None:
        if len(self._cluster.controlled(WELL_KNOWN.pods, obj)) < replicas(obj):
            await self._replica_sets.work.settled(key_of(obj))

    def _worklists(self) -> Iterable[Worklist]:
        services = self._services
        yield from (services.slices, services.endpoints, services.load_balancers, self._mirrors.work)
        yield from (self._deployments.work, self._replica_sets.work, self._stateful_sets.work, self._daemon_sets.work)
        yield from (self._jobs.work, self._cron_jobs.work, self._beginnings.work, self._endings.work)
        yield from (self._volumes.work, self._ephemeral_volumes.work, self._claim_protection.work)
        yield from (self._leftovers.work, self._disruptions.work, self._node_lifecycle.work, self._scheduling.work)


async def run(api: Api, *, root_ca: str, load_balancer_addresses: Sequence[str]) -> None:
    """Runs all controllers until cancelled."""
    await Controllers(api, root_ca=root_ca, load_balancer_addresses=load_balancer_addresses).run()
