"""The node daemon: composition of its parts, and the set of Pod workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mizzen.embedded.box import addresses
from mizzen.embedded.box.cgroups import hierarchy
from mizzen.embedded.box.init import single_user
from mizzen.embedded.box.messages import Inventory, Message
from mizzen.embedded.box.record import Box, read
from mizzen.embedded.node import payload, registration
from mizzen.embedded.node.claims import run_claims
from mizzen.embedded.node.container import Machine
from mizzen.embedded.node.dns import run_dns
from mizzen.embedded.node.dns_upstream import Upstream
from mizzen.embedded.node.egress import exchange, run_egress
from mizzen.embedded.node.events import Recorder
from mizzen.embedded.node.fields import Capacity
from mizzen.embedded.node.init_client import InitClient, InitError
from mizzen.embedded.node.node_ports import run_node_ports
from mizzen.embedded.node.parts import Images, Parts, Tokens
from mizzen.embedded.node.pod import PodWorker
from mizzen.embedded.node.policies import Policies
from mizzen.embedded.node.probes import Prober
from mizzen.embedded.node.server import serve
from mizzen.embedded.node.services import run_services
from mizzen.embedded.paths import ClusterPaths
from mizzen.embedded.placement import NODE_NAME
from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError, Resource, Selector
from mizzen.kube.config import Target
from mizzen.kube.http import HttpApi
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change, same_revision
from mizzen.nftables.families import BOTH, IPV4, Family

log = logging.getLogger("mizzen.node")

_PATIENCE = 60.0
_AFTER_FAILURE = 1.0


class Workers:
    """One worker per Pod of this node, found by the Pod's uid."""

    def __init__(self, parts: Parts, inventory: Inventory) -> None:
        self._parts = parts
        self._inventory = inventory
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, JSON] = {}
        """Pods whose worker failed, until it is begun again."""
        self._failures: set[asyncio.Task[None]] = set()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        for worker in self._workers.values():
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return worker
        return None

    def all(self) -> list[PodWorker]:
        return list(self._workers.values())

    async def all_told(self) -> None:
        """Returns when the status of every Pod known by now is true again: what a former life wrote may not be."""
        for worker in self.all():
            await worker.told.wait()

    def pods_changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.old and (change.new is None or _uid(change.new) != _uid(change.old)):
                self._vanished(change.old)
            if change.new:
                self._seen(change.new)

    def sources_changed(self, changes: Sequence[Change]) -> None:
        """ConfigMaps or Secrets: their Pods bring volumes up to date."""
        names = {(change.key[0], change.latest.get("kind") or "", change.key[1]) for change in changes}
        for worker in self._workers.values():
            namespace = worker.pod["metadata"]["namespace"]
            if any((namespace, kind, name) in names for kind, name in payload.references(worker.pod)):
                worker.refresh()

    def event(self, message: Message) -> None:
        """What init tells."""
        if message.event == "exited" and message.process and message.process.exit:
            self._parts.exits.tell(message.id, message.process.exit)
        elif message.event == "sandbox_gone" and message.id in self._workers:
            self._workers[message.id].sandbox_gone()

    def _seen(self, pod: JSON) -> None:
        known = self._workers.get(_uid(pod))
        if known:
            labels_changed = known.pod["metadata"].get("labels") != pod["metadata"].get("labels")
            known.changed(pod)
            if labels_changed:
                known.refresh()
        elif _uid(pod) in self._resting:
            self._resting[_uid(pod)] = pod
        else:
            self._begin(pod)

    def _begin(self, pod: JSON) -> None:
        uid = _uid(pod)
        worker = PodWorker(pod, self._parts, self._inventory)
        self._workers[uid] = worker
        if not (pod.get("status") or {}).get("startTime"):
            metadata = pod["metadata"]
            message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {NODE_NAME}"
            self._parts.recorder.normal(pod, "Scheduled", message)
        task = asyncio.create_task(worker.run())
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _vanished(self, pod: JSON) -> None:
        """Removed without us (`--force --grace-period=0`): end it all the same."""
        gone = {**pod["metadata"], "deletionTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
        if _uid(pod) in self._workers or _uid(pod) in self._resting:
            self._seen({**pod, "metadata": gone})

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        worker = self._workers.pop(uid)
        self._tasks.pop(uid, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("the worker of Pod %s failed", worker.pod["metadata"]["name"], exc_info=error)
            self._resting[uid] = worker.pod
            again = asyncio.create_task(self._begin_again(uid))
            self._failures.add(again)
            again.add_done_callback(self._failures.discard)

    async def _begin_again(self, uid: str) -> None:
        """With what init knows now, as a node that was started anew would."""
        await asyncio.sleep(_AFTER_FAILURE)
        self._inventory = await self._parts.init.inventory()
        self._begin(self._resting.pop(uid))

    async def close(self) -> None:
        tasks = [*self._tasks.values(), *self._failures]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _uid(pod: JSON) -> str:
    return str(pod["metadata"]["uid"])


async def remove_orphans(parts: Parts, inventory: Inventory, present: set[str]) -> None:
    """Sandboxes whose Pod was deleted while no node was looking, and processes that nobody will collect."""
    for sandbox in inventory.sandboxes:
        if sandbox.id not in present:
            log.info("removing the sandbox of Pod %s, which is gone", sandbox.id)
            with contextlib.suppress(InitError):
                await parts.init.remove_sandbox(sandbox.id)
    for process in inventory.processes:
        if process.exit and process.sandbox not in present:
            await parts.init.forget(process.id)


def node_target(paths: ClusterPaths) -> Target:
    """The API server as the node reaches it. Raises OSError or ssl.SSLError while the keys are not there yet."""
    context = ssl.create_default_context(cafile=str(paths.pki / "ca.crt"))
    context.load_cert_chain(paths.pki / "node.crt", paths.pki / "node.key")
    return Target(server=f"https://{addresses.API_ADDRESS}:443", tls=context)


async def connect(paths: ClusterPaths) -> HttpApi:
    """The API, once it answers. Raises TimeoutError after a minute."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            with contextlib.suppress(OSError, ssl.SSLError):
                api = HttpApi(node_target(paths), user_agent="mizzen-node")
                try:
                    await api.raw("GET", "/readyz")
                    return api
                except (ApiError, ValueError) as error:
                    log.debug("waiting for the API server: %s", error)
                await api.close()
            await asyncio.sleep(0.05)


def _machine() -> Machine:
    """Variables that functions of ours need to know about this machine."""
    env = {"MIZZEN_CAPTURE": "mark"} if single_user() else {}
    if path := os.environ.get("MIZZEN_ENVOY_PATH"):
        env["MIZZEN_ENVOY_PATH"] = path
    return Machine(python_bin=str(Path(sys.executable).parent), function_env=env, single_user=single_user())


def _parts(api: Api, init: InitClient, paths: ClusterPaths, box: Box) -> Parts:
    folders = os.environ.get("MIZZEN_HOST_PATHS", "")
    return Parts(
        api=api,
        init=init,
        paths=paths,
        recorder=Recorder(api, NODE_NAME),
        prober=Prober(),
        images=Images(paths.images),
        tokens=Tokens(api),
        services=Informer(api, WELL_KNOWN.services),
        policies=Policies(api, families(box)),
        machine=_machine(),
        capacity=Capacity(cpu=str(os.cpu_count() or 1), memory=f"{registration.memory_kib()}Ki"),
        host_ips=host_ips(box),
        resolver=addresses.DNS_ADDRESS,
        single_user=single_user(),
        cgroups=None if single_user() else hierarchy(paths.root),
        host_paths=tuple(Path(folder).resolve() for folder in folders.split(":") if folder),
    )


def host_ips(box: Box) -> tuple[str, ...]:
    """The node's addresses as Pods see them: the link to the host as root, the bridge without one."""
    first = box.address if box.interface else addresses.GATEWAY
    return (first, box.second_address or addresses.GATEWAY_IPV6) if box.ipv6 else (first,)


def families(box: Box) -> Sequence[Family]:
    return BOTH if box.ipv6 else (IPV4,)


async def run(paths: ClusterPaths) -> None:
    """Until init or the API server's socket is gone for good, or SIGTERM."""
    box = read(paths)
    if box is None:
        raise SystemExit(f"{paths.box} is missing: the node is started by the box's init")
    early: list[Message] = []
    deliver = early.append
    init = await InitClient.connect(paths.init_socket, lambda message: deliver(message))
    api = await connect(paths)
    parts = _parts(api, init, paths, box)
    inventory = await init.inventory()
    workers = Workers(parts, inventory)
    deliver = workers.event
    for message in early:
        workers.event(message)
    await _serve_until_over(parts, box, workers, inventory)


async def _serve_until_over(parts: Parts, box: Box, workers: Workers, inventory: Inventory) -> None:
    pods = Informer(parts.api, WELL_KNOWN.pods, selector=Selector(fields=f"spec.nodeName={NODE_NAME}"))
    kinds = (WELL_KNOWN.configmaps, WELL_KNOWN.secrets)
    sources = [Informer(parts.api, kind, same=same_revision, reduce=partial(_that_it_is, kind)) for kind in kinds]
    for informer in sources:
        informer.subscribe(workers.sources_changed)
    background = [parts.recorder.run(), registration.heartbeat(parts.api), parts.services.run(), parts.policies.run()]
    background += [informer.run() for informer in sources]
    background += _neighbours(parts, box)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in background]
        await parts.services.wait_synced()
        pods.subscribe(workers.pods_changed)
        tasks.append(group.create_task(pods.run()))
        await pods.wait_synced()
        await remove_orphans(parts, inventory, {_uid(pod) for pod in pods.objects.values()})
        await workers.all_told()
        parts.policies.complete()
        await registration.register(parts.api, parts.host_ips, box.life)
        tasks.append(group.create_task(registration.stay_ready(parts.api, parts.host_ips, box.life)))
        tasks.append(group.create_task(serve(parts, workers)))
        await _stop_or_closed(parts.init)
        for task in tasks:
            task.cancel()
    await workers.close()
    await parts.prober.close()
    await parts.api.close()


def _that_it_is(resource: Resource, obj: JSON) -> JSON:
    """Which version of a ConfigMap or Secret there is: what is in it is read by who needs it, when that is needed."""
    names = ("namespace", "name", "uid", "resourceVersion")
    return {"kind": resource.kind, "metadata": {name: obj["metadata"][name] for name in names}}


def _neighbours(parts: Parts, box: Box) -> list[Coroutine[Any, Any, None]]:
    """Services and DNS run in this process too, and node ports where the box has no address of its own."""
    broker = parts.paths.broker_socket
    upstream = Upstream(avoid=addresses.DNS_ADDRESS, exchange=partial(exchange, broker))
    found = [
        run_services(parts.api, families=families(box)),
        run_dns(parts.api, forward=upstream),
        run_egress(broker, families(box)),
    ]
    found.append(run_claims(parts.api, parts.paths.claims))
    return found if box.interface else [*found, run_node_ports(parts.api, broker, parts.recorder)]


async def _stop_or_closed(init: InitClient) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(init.closed.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
