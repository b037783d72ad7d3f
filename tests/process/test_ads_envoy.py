"""Real Envoy on our discovery service, over mutual TLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from envoys import Authority, bootstrap, envoy, until, upstream_tls
from mizzen.ads.server import AdsServer, Refused, Serving, Stream
from mizzen.ads.store import Store
from mizzen.ads.tls import mutual_tls
from mizzen.envoy.messages import (
    Cluster,
    ClusterLoadAssignment,
    HttpConnectionManager,
    Listener,
    RouteConfiguration,
    Router,
    serialized,
    typed,
)
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource, Resources

pytestmark = pytest.mark.process
IDENTITY = "spiffe://cluster.local/ns/default/sa/web"


@dataclass
class OneTarget:
    """A fleet whose proxies all hold the same."""

    target: Resources
    streams: list[Stream] = field(default_factory=list)

    async def join(self, stream: Stream) -> None:
        if stream.identities != (IDENTITY,):
            raise Refused(f"not {IDENTITY}")
        stream.publish((self.target,))
        self.streams.append(stream)

    def acknowledged(self, stream: Stream) -> None: ...

    def leave(self, stream: Stream) -> None:
        self.streams.remove(stream)


def resources(**by_type: list[tuple[str, object]]) -> Resources:
    urls = {"clusters": CLUSTER, "endpoints": ENDPOINTS, "listeners": LISTENER, "routes": ROUTES}
    return {
        urls[kind]: {name: Resource.of(name, serialized(message)) for name, message in entries}  # type: ignore[arg-type]
        for kind, entries in by_type.items()
    }


def eds_cluster(name: str, **more: object) -> tuple[str, object]:
    source = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    return name, Cluster(name=name, type="EDS", eds_cluster_config=source, **more)


def broken_cluster(name: str) -> tuple[str, object]:
    return name, Cluster(name=name, type="EDS")


def no_endpoints(name: str) -> tuple[str, object]:
    return name, ClusterLoadAssignment(cluster_name=name)


def listener(name: str) -> tuple[str, object]:
    manager = HttpConnectionManager(
        stat_prefix="x",
        rds={"route_config_name": "web", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        http_filters=[typed("envoy.filters.http.router", Router())],
    )
    chain = {"filters": [typed("envoy.filters.network.http_connection_manager", manager)]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return name, Listener(name=name, address=address, filter_chains=[chain])


def route(status: int) -> tuple[str, object]:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": status}}
    return "web", RouteConfiguration(name="web", virtual_hosts=[{"name": "all", "domains": ["*"], "routes": [answer]}])


def world(status: int = 200, extra: list[tuple[str, object]] | None = None) -> Resources:
    return resources(
        clusters=[eds_cluster("one"), *(extra or [])],
        endpoints=[no_endpoints("one"), no_endpoints("two")],
        listeners=[listener("front")],
        routes=[route(status)],
    )


@asynccontextmanager
async def serving(fleet: OneTarget, authority: Authority, port: int = 0) -> AsyncIterator[AdsServer]:
    key, chain = authority.issue(x509.DNSName("istiod.istio-system.svc"))
    shown = (key, chain, authority.root)
    server = AdsServer(fleet, Store(), Serving("127.0.0.1", port, mutual_tls(lambda: shown)))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def tls(authority: Authority, identity: str = IDENTITY) -> dict[str, object]:
    return upstream_tls(*authority.issue(x509.UniformResourceIdentifier(identity)), authority.root)


def settled(fleet: OneTarget) -> bool:
    return bool(fleet.streams) and fleet.streams[0].session.settled


def held(fleet: OneTarget) -> dict[str, set[str]]:
    return {url.rpartition(".")[2]: set(fleet.streams[0].session.held(url)) for url in fleet.streams[0].types}


EVERYTHING = {
    "Cluster": {"one"},
    "ClusterLoadAssignment": {"one"},
    "Listener": {"front"},
    "RouteConfiguration": {"web"},
}


async def test_configures_envoy_over_mutual_tls_and_follows_changes(tmp_path: Path) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with (
        serving(fleet, authority) as server,
        envoy(tmp_path, bootstrap(server.port, tls(authority))) as proxy,
    ):
        await until(lambda: settled(fleet) and held(fleet) == EVERYTHING)
        port = await proxy.port_of("front")
        assert await proxy.status(port) == 200
        fleet.streams[0].publish((world(status=418),))
        await until(lambda: settled(fleet))
        assert await proxy.status(port) == 418


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_a_changed_cluster_does_not_hold_up_what_follows_it(tmp_path: Path, api_type: str) -> None:
    """It warms anew and needs its endpoints again, which Envoy does not ask for."""
    authority, fleet = Authority(), OneTarget(world())
    changed = {**world(status=418), **resources(clusters=[eds_cluster("one", connect_timeout=timedelta(seconds=3))])}
    async with (
        serving(fleet, authority) as server,
        envoy(tmp_path, bootstrap(server.port, tls(authority), api_type=api_type)) as proxy,
    ):
        await until(lambda: settled(fleet) and len(fleet.streams[0].types) == 4)
        port = await proxy.port_of("front")
        assert await proxy.status(port) == 200
        fleet.streams[0].publish((changed,))
        await until(lambda: settled(fleet))
        assert await proxy.status(port) == 418


async def test_good_resources_of_a_partly_refused_response_hold_and_the_bad_one_is_not_sent_again(
    tmp_path: Path,
) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with (
        serving(fleet, authority) as server,
        envoy(tmp_path, bootstrap(server.port, tls(authority))),
    ):
        await until(lambda: settled(fleet))
        stream = fleet.streams[0]
        stream.publish((world(extra=[broken_cluster("bad"), eds_cluster("two")]),))
        await until(lambda: settled(fleet))
        assert set(stream.session.held(CLUSTER)) == {"one", "two"}
        assert "cannot create an EDS cluster" in stream.session.refused[CLUSTER, "bad"].message
        sent = stream.responses_sent
        stream.publish((world(extra=[broken_cluster("bad"), eds_cluster("two")]),))
        assert stream.responses_sent == sent


async def test_a_restarted_server_sends_nothing_that_did_not_change(tmp_path: Path) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with serving(fleet, authority) as server:
        port, config = server.port, bootstrap(server.port, tls(authority))
        async with envoy(tmp_path, config) as proxy:
            await until(lambda: settled(fleet) and held(fleet) == EVERYTHING)
            front = await proxy.port_of("front")
            await server.stop()
            assert await proxy.status(front) == 200
            again = OneTarget(world())
            async with serving(again, authority, port):
                await until(lambda: settled(again) and held(again) == EVERYTHING)
                assert again.streams[0].responses_sent == 0
                again.streams[0].publish((world(status=503),))
                await until(lambda: settled(again))
                assert again.streams[0].responses_sent == 1
                assert await proxy.status(front) == 503


async def test_a_proxy_whose_stream_broke_while_a_cluster_was_warming_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back without a word of clusters, and says that it has the endpoints that the new cluster waits for."""
    authority, fleet = Authority(), OneTarget(world())
    changed = {**world(status=418), **resources(clusters=[eds_cluster("one", connect_timeout=timedelta(seconds=3))])}
    async with serving(fleet, authority) as server:
        config = bootstrap(server.port, tls(authority))
        async with envoy(tmp_path, config) as proxy:
            await until(lambda: settled(fleet) and held(fleet) == EVERYTHING)
            front = await proxy.port_of("front")
            monkeypatch.setattr(fleet.streams[0].session, "_warm", lambda _: None)
            fleet.streams[0].publish((changed,))
            await until(lambda: "warming_clusters: 1" in proxy.get("/stats?filter=warming_clusters"))
            await server.stop()
            again = OneTarget(changed)
            async with serving(again, authority, server.port):
                await until(lambda: settled(again) and held(again) == EVERYTHING)
                assert await proxy.status(front) == 418


async def test_refuses_a_proxy_whose_certificate_says_something_else(tmp_path: Path) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with serving(fleet, authority) as server:
        other = tls(authority, "spiffe://cluster.local/ns/default/sa/other")
        async with envoy(tmp_path, bootstrap(server.port, other)) as proxy:
            await asyncio.sleep(0.5)
            assert fleet.streams == []
            assert "listener_statuses" not in json.loads(await asyncio.to_thread(proxy.get, "/listeners?format=json"))
