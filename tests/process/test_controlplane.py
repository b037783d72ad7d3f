"""istiod as a whole against an API server in memory, with a real Envoy as its proxy."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from control_planes import Cluster, certificate, cluster, endpoint_slice, istiod, pod, published
from envoys import Envoy, bootstrap, envoy, until, upstream_tls
from mizzen.agent.certificates import KeyPair
from mizzen.agent.sds import Secrets, serve_secrets
from mizzen.api.authorization import Rule
from mizzen.ca.authority import (
    join,
    new_key,
    private_key_pem,
    sign_workload,
    signing_request,
)
from mizzen.ca.spiffe import Identity
from mizzen.controlplane.app import ControlPlane
from mizzen.controlplane.watching import MESH_KINDS
from mizzen.envoy.resources import LISTENER, ROUTES
from mizzen.kube.api import WELL_KNOWN, AlreadyExists
from mizzen.scope.guards import guards

pytestmark = [pytest.mark.process, pytest.mark.root]
VIRTUAL_SERVICES = next(one for one in MESH_KINDS.values() if one.kind == "VirtualService")


def virtual_service(timeout: str, host: str = "reviews", path: str = "") -> dict[str, Any]:
    """`path`: a regular expression, which nobody validates here."""
    metadata = {"name": "reviews", "namespace": "default", "generation": 1}
    rule: dict[str, Any] = {"timeout": timeout, "route": [{"destination": {"host": host}}]}
    if path:
        rule["match"] = [{"uri": {"regex": path}}]
    spec = {"hosts": ["reviews"], "http": [rule]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": spec,
    }


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


async def test_a_proxy_from_certificate_to_configuration(tmp_path: Path) -> None:
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

            await api.replace(VIRTUAL_SERVICES, virtual_service("10s", path="a("), "default")
            await until(lambda: reason(api) == "RejectedByProxies")
            told = status(api)["conditions"][0]["message"]
            assert "1 proxy (web-1.default) refused the route table 9080" in told and "missing )" in told
            assert timeout() == "10s", "it keeps what it had"
            await api.replace(VIRTUAL_SERVICES, virtual_service("10s"), "default")
            await until(lambda: reason(api) == "Reconciled")

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


def held(plane: ControlPlane, type_url: str) -> list[dict[str, str]]:
    return [member.stream.session.held(type_url) for member in plane.fleet.proxies()]


def sent(plane: ControlPlane) -> tuple[int, int]:
    streams = [member.stream for member in plane.fleet.proxies()]
    return sum(one.responses_sent for one in streams), sum(one.bytes_sent for one in streams)


def status(api: Cluster) -> dict[str, Any] | None:
    return api._objects[VIRTUAL_SERVICES]["default", "reviews"].get("status")


def reason(api: Cluster) -> str:
    return str((status(api) or {}).get("conditions", [{}])[0].get("reason", ""))


async def test_a_policy_that_cannot_be_read_denies() -> None:
    """Stored past validation, before istiod started: what it would apply to is closed, and its status says so."""
    api = await cluster()
    kind = next(one for one in MESH_KINDS.values() if one.kind == "AuthorizationPolicy")
    spec = {"selector": {"matchLabels": {"app": "web"}}, "action": "ALLOW", "rules": "all"}
    metadata = {"name": "broken", "namespace": "default", "generation": 1}
    await api.create(
        kind, {"apiVersion": "security.istio.io/v1", "kind": kind.kind, "metadata": metadata, "spec": spec}, "default"
    )

    def condition() -> dict[str, Any]:
        stored = api._objects[kind]["default", "broken"].get("status") or {}
        return dict(stored.get("conditions", [{}])[0])

    async with istiod(api) as plane:
        guarding = guards(plane.snapshot, "default", frozenset({("app", "web")}))
        assert [(one.name, one.spec.action, one.spec.rules) for one in guarding.policies] == [
            ("broken", "DENY", (Rule(),))
        ]
        assert guards(plane.snapshot, "default", frozenset({("app", "other")})).policies == ()
        await until(lambda: condition().get("status") == "False")
        assert "everything that it would apply to is denied" in condition()["message"]
        right = {"rules": [{}]}
        await api.patch(kind, "broken", {"spec": right, "metadata": {"generation": 2}}, "default")
        await until(lambda: condition().get("status") == "True")
        await api.patch(kind, "broken", {"spec": {"rules": "all"}, "metadata": {"generation": 3}}, "default")
        await until(lambda: condition().get("status") == "False")
        assert "the one before stays in force" in condition()["message"]
        assert guards(plane.snapshot, "default", frozenset({("app", "web")})).policies[0].spec.action == "ALLOW"


async def test_a_proxy_with_another_pods_certificate_is_refused(tmp_path: Path) -> None:
    api = await cluster()
    await api.create(WELL_KNOWN.pods, pod("bank-1", "bank", "bank"), "default")
    async with istiod(api) as plane:
        await until(lambda: published(api))
        tls = upstream_tls(*await certificate(plane, api))
        node = "sidecar~10.0.0.9~bank-1.default~default.svc.cluster.local"
        async with envoy(tmp_path, bootstrap(plane.ports.ads, tls, node)):
            await asyncio.sleep(0.5)
            assert list(plane.fleet.proxies()) == []


async def test_a_proxy_of_an_alias_of_the_trust_domain_is_taken(tmp_path: Path) -> None:
    api = await cluster()
    data = {"data": {"mesh": "trustDomainAliases: [old.example.com]"}}
    await api.patch(WELL_KNOWN.configmaps, "istio", data, "istio-system")
    async with istiod(api) as plane:
        for domain, taken in (("elsewhere.example.com", False), ("old.example.com", True)):
            signing, key, now = plane.certificates.authority.current.signing, new_key(), datetime.now(UTC)
            web = Identity(domain, "default", "web")
            chain = sign_workload(signing, signing_request(key, str(web)), web, now, timedelta(hours=1), 7)
            own = private_key_pem(key), "".join(chain).encode(), join(signing.trusted).encode()
            folder = tmp_path / domain
            folder.mkdir()
            async with envoy(folder, bootstrap(plane.ports.ads, upstream_tls(*own))):
                if taken:
                    await until(lambda: bool(list(plane.fleet.proxies())))
                else:
                    await asyncio.sleep(0.5)
                    assert list(plane.fleet.proxies()) == []


async def test_a_token_that_proves_nothing_gets_no_certificate() -> None:
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
