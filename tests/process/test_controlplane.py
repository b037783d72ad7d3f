"""istiod as a whole against an API server in memory, with a real Envoy as its proxy."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from envoys import Envoy, bootstrap, envoy, until, upstream_tls
from mizzen.agent.certificates import KeyPair
from mizzen.agent.sds import Secrets, serve_secrets
from mizzen.ca.authority import new_key, private_key_pem, signing_request
from mizzen.ca.messages import CA_METHOD, IstioCertificateRequest, IstioCertificateResponse
from mizzen.controlplane.app import ControlPlane, Ports, Settings
from mizzen.controlplane.watching import MESH_KINDS
from mizzen.envoy.resources import LISTENER, ROUTES
from mizzen.install.manifests import manifests
from mizzen.install.options import read_options
from mizzen.install.types import resource_of
from mizzen.kube.api import WELL_KNOWN, AlreadyExists
from mizzen.kube.memory import MemoryApi

pytestmark = [pytest.mark.process, pytest.mark.root]
VIRTUAL_SERVICES = next(one for one in MESH_KINDS.values() if one.kind == "VirtualService")
TOKEN = "a-token"


class Cluster(MemoryApi):
    """Answers TokenReviews for one service account: `web` in `default`."""

    async def create(self, resource, obj, namespace=None, **options) -> dict[str, Any]:
        if resource.kind != "TokenReview":
            return await super().create(resource, obj, namespace, **options)
        known = obj["spec"]["token"] == TOKEN
        user = {"username": "system:serviceaccount:default:web"}
        status = {"authenticated": True, "user": user, "audiences": ["istio-ca"]} if known else {"authenticated": False}
        return {**obj, "status": status}


def service(name: str, port: int) -> dict[str, Any]:
    spec = {"clusterIP": "10.96.7.7", "selector": {"app": name}, "ports": [{"name": "http", "port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def endpoint_slice(name: str, *addresses: str) -> dict[str, Any]:
    metadata = {"name": f"{name}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": name}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "ports": [{"name": "http", "port": 9080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def pod(name: str, app: str, account: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": {"app": app}}
    spec = {"serviceAccountName": account, "containers": [{"name": app, "image": app}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def virtual_service(timeout: str, host: str = "reviews") -> dict[str, Any]:
    metadata = {"name": "reviews", "namespace": "default", "generation": 1}
    rule = {"timeout": timeout, "route": [{"destination": {"host": host}}]}
    spec = {"hosts": ["reviews"], "http": [rule]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": spec,
    }


async def cluster() -> Cluster:
    api = Cluster()
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}]
    given = [service("reviews", 9080), pod("web-1", "web", "web"), endpoint_slice("reviews", "10.1.0.1")]
    for obj in [*namespaces, *manifests(read_options(["profile=minimal"])), *given]:
        known = resource_of(obj["apiVersion"], obj["kind"])
        await api.create(known, obj, obj["metadata"].get("namespace"))
    return api


@asynccontextmanager
async def istiod(api: Cluster, ports: Ports | None = None) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(Settings(host="127.0.0.1", ports=ports or Ports(0, 0, 0, 0, 0)), api)
    work = asyncio.create_task(plane.run())
    try:
        await until(lambda: plane.serving.is_set() or work.done())
        yield plane
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def certificate(plane: ControlPlane, api: Cluster, token: str = TOKEN) -> tuple[bytes, bytes, bytes]:
    """As the agent gets it: root from the ConfigMap, chain from the CA."""
    found = await api.get(WELL_KNOWN.configmaps, "istio-ca-root-cert", "default")
    root = found["data"]["root-cert.pem"].encode()
    key = new_key()
    options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc")]
    credentials = grpc.ssl_channel_credentials(root)
    async with grpc.aio.secure_channel(f"127.0.0.1:{plane.ports.ca}", credentials, options=options) as channel:
        call = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        request = IstioCertificateRequest(csr=signing_request(key, "ignored").decode(), validity_duration=3600)
        response = await call(request, metadata=(("authorization", f"Bearer {token}"),))
    return private_key_pem(key), "".join(response.cert_chain).encode(), root


def route_of(proxy_dump: str) -> dict[str, Any]:
    """The first route to reviews in table 9080; {} while it is not there."""
    dumps = json.loads(proxy_dump)["configs"]
    routes = next(one for one in dumps if one["@type"].endswith(".RoutesConfigDump")).get("dynamic_route_configs", ())
    tables = [one["route_config"] for one in routes if one["route_config"]["name"] == "9080"]
    hosts = [host for table in tables for host in table["virtual_hosts"] if host["name"].startswith("reviews.default")]
    return hosts[0]["routes"][0]["route"] if hosts else {}


def live(proxy: Envoy) -> bool:
    try:
        return proxy.get("/ready").strip() == "LIVE"
    except urllib.error.HTTPError:
        return False


def synced(plane: ControlPlane) -> bool:
    members = list(plane.fleet.proxies())
    return bool(members) and members[0].stream.session.settled and "9080" in members[0].stream.session.held(ROUTES)


async def test_a_proxy_from_certificate_to_configuration(private_network, tmp_path: Path) -> None:
    api = await cluster()
    async with AsyncExitStack() as first:
        plane = await first.enter_async_context(istiod(api))
        await until(lambda: published(api))
        own = await certificate(plane, api)
        secrets, socket = Secrets(), tmp_path / "sds.sock"
        secrets.publish(KeyPair(*own).secrets())
        agent = await serve_secrets(secrets, str(socket))
        first.push_async_callback(agent.stop, None)
        async with envoy(tmp_path, bootstrap(plane.ports.ads, upstream_tls(*own), sds=socket)) as proxy:
            await until(lambda: live(proxy) and synced(plane))
            assert {"virtualInbound", "virtualOutbound", "0.0.0.0_9080"} <= set(next(iter(held(plane, LISTENER))))

            def timeout() -> str | None:
                return route_of(proxy.get("/config_dump")).get("timeout")

            await until(lambda: timeout() == "0s")
            await api.create(VIRTUAL_SERVICES, virtual_service("10s"), "default")
            await until(lambda: plane.fleet.latency.count > 0 and plane.fleet.settled)
            await until(lambda: timeout() == "10s")
            await until(lambda: status(api) is not None)
            assert status(api)["conditions"][0]["reason"] == "Reconciled"

            before = sent(plane)
            await api.replace(WELL_KNOWN.endpointslices, endpoint_slice("reviews", "10.1.0.1", "10.1.0.2"), "default")
            await until(lambda: sent(plane) != before and synced(plane))
            assert sent(plane)[0] - before[0] == 1, "only the ClusterLoadAssignment travels"
            clusters = await asyncio.to_thread(proxy.get, "/clusters")
            assert "outbound|9080||reviews.default.svc.cluster.local::10.1.0.2:9080" in clusters

            await first.aclose()
            async with istiod(api, plane.ports) as again:
                await until(lambda: synced(again))
                assert sent(again) == (0, 0), "a returning control plane resends nothing that did not change"
                assert set(next(iter(held(again, ROUTES)))) >= {"9080"}


def published(api: Cluster) -> bool:
    return any(one.object["metadata"]["name"] == "istio-ca-root-cert" for one in api._log)


def held(plane: ControlPlane, type_url: str) -> list[dict[str, str]]:
    return [member.stream.session.held(type_url) for member in plane.fleet.proxies()]


def sent(plane: ControlPlane) -> tuple[int, int]:
    streams = [member.stream for member in plane.fleet.proxies()]
    return sum(one.responses_sent for one in streams), sum(one.bytes_sent for one in streams)


def status(api: Cluster) -> dict[str, Any] | None:
    return api._objects[VIRTUAL_SERVICES]["default", "reviews"].get("status")


async def test_a_proxy_with_another_pods_certificate_is_refused(private_network, tmp_path: Path) -> None:
    api = await cluster()
    await api.create(WELL_KNOWN.pods, pod("bank-1", "bank", "bank"), "default")
    async with istiod(api) as plane:
        await until(lambda: published(api))
        tls = upstream_tls(*await certificate(plane, api))
        node = "sidecar~10.0.0.9~bank-1.default~default.svc.cluster.local"
        async with envoy(tmp_path, bootstrap(plane.ports.ads, tls, node)):
            await asyncio.sleep(0.5)
            assert list(plane.fleet.proxies()) == []


async def test_a_token_that_proves_nothing_gets_no_certificate(private_network) -> None:
    api = await cluster()
    async with istiod(api) as plane:
        await until(lambda: published(api))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await certificate(plane, api, "another-token")
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_two_replicas_have_one_root_and_restore_its_copies() -> None:
    api = await cluster()
    async with istiod(api), istiod(api):
        await until(lambda: published(api))
        secret = await api.get(WELL_KNOWN.secrets, "istio-ca-secret", "istio-system")
        assert secret["type"] == "istio.io/ca-root"
        copy = await api.get(WELL_KNOWN.configmaps, "istio-ca-root-cert", "default")
        await api.replace(WELL_KNOWN.configmaps, {**copy, "data": {"root-cert.pem": "mine"}}, "default")
        shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        await api.create(WELL_KNOWN.namespaces, shop)
        copies = api._objects[WELL_KNOWN.configmaps]
        wanted = copy["data"]
        await until(
            lambda: all(
                copies.get((name, "istio-ca-root-cert"), {}).get("data") == wanted for name in ("default", "shop")
            )
        )
        with pytest.raises(AlreadyExists):
            await api.create(WELL_KNOWN.secrets, secret, "istio-system")


async def review(plane: ControlPlane, path: str, request: dict[str, Any]) -> dict[str, Any]:
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", **request}}
    url = f"https://127.0.0.1:{plane.ports.webhooks}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, ssl=False) as answer:
        return (await answer.json())["response"]


async def test_webhooks_inject_judge_and_are_led_to_us() -> None:
    api = await cluster()
    async with istiod(api) as plane:
        answer = await review(plane, "/inject", {"namespace": "default", "object": pod("web-2", "web", "web")})
        assert answer["patchType"] == "JSONPatch"
        kind = {"group": "networking.istio.io", "kind": "VirtualService"}
        answer = await review(plane, "/validate", {"kind": kind, "object": virtual_service("ten seconds")})
        assert not answer["allowed"]
        assert "spec.http[0].timeout" in answer["status"]["message"]
        answer = await review(plane, "/validate", {"kind": kind, "object": virtual_service("10s", "nowhere")})
        assert answer["allowed"]
        assert "nowhere" in answer["warnings"][0]
        security = {"group": "security.istio.io", "kind": "PeerAuthentication"}
        asked = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "default"}}
        asked["spec"] = {"portLevelMtls": {"80": {"mode": "STRICT"}}}
        answer = await review(plane, "/validate", {"kind": security, "object": asked})
        assert "cannot have port level mTLS" in answer["status"]["message"]
        asked["spec"] = {"mtls": {"mode": "STRICT"}}
        assert (await review(plane, "/validate", {"kind": security, "object": asked}))["allowed"]

        def validators() -> list[dict[str, Any]]:
            found = api._objects[WELL_KNOWN.validating_webhooks]["", "istio-validator-istio-system"]
            return [one for one in found["webhooks"] if one["clientConfig"].get("caBundle")]

        await until(lambda: [one["failurePolicy"] for one in validators()] == ["Fail", "Fail"])
