"""Real Envoy on our discovery service, over mutual TLS."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mizzen.ads.server import AdsServer, Refused, Serving, Stream, tls_credentials
from mizzen.ads.store import Store
from mizzen.envoy.descriptors import envoy_path
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


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
        self.root = self._signed(self.name, self.key, x509.BasicConstraints(True, None), None)

    def _signed(self, subject, key, constraints, names) -> bytes:  # noqa: ANN001 - a test's own helper
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=2))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(constraints, True)
        )
        if names is not None:
            certificate = certificate.add_extension(x509.SubjectAlternativeName(names), True)
        return certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: x509.GeneralName) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self._signed(x509.Name([]), key, x509.BasicConstraints(False, None), [name])
        return pem(key), chain + self.root


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


def eds_cluster(name: str) -> tuple[str, object]:
    source = {"eds_config": {"ads": {}, "resource_api_version": "V3"}}
    return name, Cluster(name=name, type="EDS", eds_cluster_config=source)


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


def bootstrap(port: int, tls: dict[str, object]) -> dict[str, object]:
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "node": {"id": "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", "cluster": "web.default"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                }
            ]
        },
    }


def upstream_tls(authority: Authority, identity: str) -> dict[str, object]:
    key, chain = authority.issue(x509.UniformResourceIdentifier(identity))
    return {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "istiod.istio-system.svc",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {"certificate_chain": {"inline_string": chain.decode()}, "private_key": {"inline_string": key.decode()}}
            ],
            "validation_context": {"trusted_ca": {"inline_string": authority.root.decode()}},
        },
    }


class Envoy:
    """A running Envoy and its admin interface."""

    def __init__(self, admin: Path) -> None:
        self._admin = admin

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self._admin.read_text()}{path}", timeout=5) as answer:
            return answer.read().decode()

    async def port_of(self, name: str) -> int:
        listeners = json.loads(await asyncio.to_thread(self.get, "/listeners?format=json"))["listener_statuses"]
        return next(one["local_address"]["socket_address"]["port_value"] for one in listeners if one["name"] == name)

    async def status(self, port: int) -> int:
        def call() -> int:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        return await asyncio.to_thread(call)


@asynccontextmanager
async def envoy(folder: Path, config: dict[str, object]) -> AsyncIterator[Envoy]:
    (folder / "bootstrap.json").write_text(json.dumps(config))
    arguments = ["-c", "bootstrap.json", "--admin-address-path", "admin", "--concurrency", "1", "-l", "warn"]
    arguments += ["--use-dynamic-base-id", "--log-path", "envoy.log"]
    process = await asyncio.create_subprocess_exec(str(envoy_path()), *arguments, cwd=folder)
    try:
        await until(lambda: (folder / "admin").exists() and (folder / "admin").read_text() != "")
        yield Envoy(folder / "admin")
    finally:
        process.kill()
        await process.wait()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(fleet: OneTarget, authority: Authority, port: int = 0) -> AsyncIterator[AdsServer]:
    key, chain = authority.issue(x509.DNSName("istiod.istio-system.svc"))
    shown = (key, chain, authority.root)
    server = AdsServer(fleet, Store(), Serving(f"127.0.0.1:{port}", tls_credentials(lambda: shown)))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


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
    async with serving(fleet, authority) as server:
        async with envoy(tmp_path, bootstrap(server.port, upstream_tls(authority, IDENTITY))) as proxy:
            await until(lambda: settled(fleet) and held(fleet) == EVERYTHING)
            port = await proxy.port_of("front")
            assert await proxy.status(port) == 200
            fleet.streams[0].publish((world(status=418),))
            await until(lambda: settled(fleet))
            assert await proxy.status(port) == 418


async def test_good_resources_of_a_partly_refused_response_hold_and_the_bad_one_is_not_sent_again(
    tmp_path: Path,
) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with serving(fleet, authority) as server:
        async with envoy(tmp_path, bootstrap(server.port, upstream_tls(authority, IDENTITY))):
            await until(lambda: settled(fleet))
            stream = fleet.streams[0]
            stream.publish((world(extra=[broken_cluster("bad"), eds_cluster("two")]),))
            await until(lambda: settled(fleet))
            assert set(stream.session.held(CLUSTER)) == {"one", "two"}
            assert "cannot create an EDS cluster" in stream.session.refused[CLUSTER, "bad"].message
            sent = stream.responses_sent
            stream.publish((world(extra=[broken_cluster("bad"), eds_cluster("two")]),))
            assert not stream.outbox
            assert stream.responses_sent == sent


async def test_a_restarted_server_sends_nothing_that_did_not_change(tmp_path: Path) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with serving(fleet, authority) as server:
        port, config = server.port, bootstrap(server.port, upstream_tls(authority, IDENTITY))
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


async def test_refuses_a_proxy_whose_certificate_says_something_else(tmp_path: Path) -> None:
    authority, fleet = Authority(), OneTarget(world())
    async with serving(fleet, authority) as server:
        other = upstream_tls(authority, "spiffe://cluster.local/ns/default/sa/other")
        async with envoy(tmp_path, bootstrap(server.port, other)) as proxy:
            await asyncio.sleep(0.5)
            assert fleet.streams == []
            assert "listener_statuses" not in json.loads(await asyncio.to_thread(proxy.get, "/listeners?format=json"))
