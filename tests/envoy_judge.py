"""A discovery server that tells one real Envoy a world at a time and hears what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from mizzen.agent.certificates import KeyPair
from mizzen.agent.sds import Secrets, secret_service
from mizzen.ca.authority import new_key, new_root, private_key_pem, sign_workload, signing_request
from mizzen.ca.spiffe import Identity
from mizzen.envoy.descriptors import envoy_path
from mizzen.envoy.messages import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Listener, unpack
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, Resource, Resources
from mizzen.xds.endpoints import cluster_load_assignment

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, EXTENSION)
WILDCARD = (CLUSTER, LISTENER)


class Mesh:
    """A root of trust, and certificates for who is of the mesh."""

    def __init__(self) -> None:
        self.root = new_root("cluster.local", datetime.now(UTC), x509.random_serial_number())

    def workload(self, account: str = "default", namespace: str = "default") -> KeyPair:
        key, identity = new_key(), Identity("cluster.local", namespace, account)
        request = signing_request(key, str(identity))
        now, serial = datetime.now(UTC), x509.random_serial_number()
        chain = sign_workload(self.root, request, identity, now, timedelta(hours=1), serial)
        return KeyPair(private_key_pem(key), "".join(chain).encode(), self.root.to_pem()[0])


class Judge:
    """A discovery server that tells one Envoy a world at a time and notes what it refuses."""

    def __init__(self) -> None:
        self._world: Resources = {}
        self._subscribed: dict[str, set[str]] = defaultdict(set)
        self._sent: dict[str, dict[str, str]] = defaultdict(dict)
        self._unanswered: dict[str, str] = {}
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._refusals: list[str] = []
        self._nonce = 0
        self.secrets = Secrets()
        """What the agent's socket would answer."""

    async def stream(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        reader = asyncio.create_task(self._read(requests))
        try:
            while True:
                yield await self._outbox.get()
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for body in requests:
            request = DeltaDiscoveryRequest.FromString(body)
            if request.response_nonce:
                self._unanswered.pop(request.response_nonce, None)
            if request.error_detail.message:
                self._refusals.append(request.error_detail.message)
            self._subscribed[request.type_url].update(request.resource_names_subscribe)
            self._subscribed[request.type_url].difference_update(request.resource_names_unsubscribe)
            for name in request.resource_names_unsubscribe:
                self._sent[request.type_url].pop(name, None)
            self._flush()
            self._changed.set()

    def _flush(self) -> None:
        for type_url in ORDER:
            wanted = dict(self._wanted(type_url))
            sent = self._sent[type_url]
            new = [resource for name, resource in wanted.items() if sent.get(name) != resource.version]
            gone = [name for name in sent if name not in wanted]
            if new or gone:
                self._send(type_url, new, gone)
            if type_url == CLUSTER:
                # A cluster that changes warms anew, but Envoy does not ask again for endpoints it is subscribed to.
                self._forget(ENDPOINTS, new)

    def _forget(self, type_url: str, changed: list[Resource]) -> None:
        for resource in changed:
            self._sent[type_url].pop(resource.name, None)

    def _wanted(self, type_url: str) -> Iterator[tuple[str, Resource]]:
        here = self._world.get(type_url, {})
        if type_url not in self._subscribed:
            return
        for name in here if type_url in WILDCARD else self._subscribed[type_url]:
            if name in here:
                yield name, here[name]
            elif type_url == ENDPOINTS:
                yield name, cluster_load_assignment(name, ())

    def _send(self, type_url: str, new: list[Resource], gone: list[str]) -> None:
        self._nonce += 1
        self._unanswered[str(self._nonce)] = type_url
        self._sent[type_url] = {
            **{name: version for name, version in self._sent[type_url].items() if name not in gone},
            **{resource.name: resource.version for resource in new},
        }
        bodies = [
            {"name": each.name, "version": each.version, "resource": {"type_url": type_url, "value": each.body}}
            for each in new
        ]
        response = DeltaDiscoveryResponse(
            type_url=type_url, nonce=str(self._nonce), resources=bodies, removed_resources=gone
        )
        self._outbox.put_nowait(response.SerializeToString())

    async def refusals(self, world: Resources) -> list[str]:
        """What Envoy says against this world once it has answered for all of it."""
        self._world, self._refusals = world, []
        routes = route_names(world)
        assert routes <= set(world.get(ROUTES, {})), "a listener asks for routes that nobody wrote"
        self._flush()
        async with asyncio.timeout(20):
            while self._unanswered or not (self._refusals or routes <= set(self._sent[ROUTES])):
                self._changed.clear()
                await self._changed.wait()
        return self._refusals


def route_names(world: Resources) -> set[str]:
    """What the listeners of a world will subscribe to."""
    found: set[str] = set()
    for resource in world.get(LISTENER, {}).values():
        listener = Listener.FromString(resource.body)
        for chain in [*listener.filter_chains, listener.default_filter_chain]:
            managers = [unpack(each.typed_config) for each in chain.filters if each.name.endswith("manager")]
            found.update(each.rds.route_config_name for each in managers if each.HasField("rds"))
    return found


def bootstrap(port: int) -> dict[str, Any]:
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }
        for name in ("xds-grpc", "sds-grpc")
    ]
    stream = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
    return {
        "node": {"id": "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", "cluster": "web.default"},
        "dynamic_resources": {"ads_config": stream, "cds_config": ads, "lds_config": ads},
        "static_resources": {"clusters": clusters},
    }


@asynccontextmanager
async def judge(
    folder: Path,
    user: int | None = None,
    workload: KeyPair | None = None,
    admin: int | None = None,
    certified: bool = True,
) -> AsyncIterator[Judge]:
    """Envoy writes its log to `folder`; as another user it has no place to write to, and none. `workload` is who it is
    to others, at first; `Judge.secrets` can make it somebody else. Without `certified` it is nobody yet. `admin`: a
    port on the loopback."""
    found, server = Judge(), grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(found.stream)
    service, method = METHOD.strip("/").split("/")
    discovery = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers([discovery, secret_service(found.secrets)])
    if certified:
        found.secrets.publish((workload or Mesh().workload()).secrets())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    page = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}}} if admin else {}
    arguments = ["--config-yaml", json.dumps({**bootstrap(port), **page}), "--concurrency", "1", "-l", "warn"]
    log = ["--log-path", str(folder / "envoy.log")] if user is None else ["--log-path", "/dev/null"]
    # By a descriptor: another user may not come into the folders above it.
    program = os.open(envoy_path(), os.O_PATH)
    opened = f"/proc/self/fd/{program}"
    envoy = await asyncio.create_subprocess_exec(
        opened, *arguments, *log, "--disable-hot-restart", user=user, group=user, pass_fds=[program]
    )
    os.close(program)
    try:
        yield found
    finally:
        envoy.kill()
        await envoy.wait()
        await server.stop(None)


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections, so that none of them takes it before its user."""
    while True:
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("0.0.0.0", 20_000 + secrets.randbelow(10_000)))
            return int(found.getsockname()[1])
