"""istiod as a whole against an API server in memory, with a real Envoy as its proxy."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import urllib.error
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from envoys import Envoy, bootstrap, envoy, until, upstream_tls
from mizzen.agent.certificates import KeyPair
from mizzen.agent.sds import Secrets, serve_secrets
from mizzen.ca.authority import KeyKind, fingerprint, join, new_key, new_root, private_key_pem, signing_request
from mizzen.ca.messages import CA_METHOD, TRUSTED_ROOTS, IstioCertificateRequest, IstioCertificateResponse
from mizzen.controlplane import authority_secrets, ledger
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
TOKEN, BOUND = "a-token", "a-token-of-a-pod"


class Cluster(MemoryApi):
    """Answers TokenReviews for one service account: `web` in `default`."""

    async def create(self, resource, obj, namespace=None, **options) -> dict[str, Any]:
        if resource.kind != "TokenReview":
            return await super().create(resource, obj, namespace, **options)
        known = obj["spec"]["token"] in (TOKEN, BOUND)
        user: dict[str, Any] = {"username": "system:serviceaccount:default:web"}
        if obj["spec"]["token"] == BOUND:
            user["extra"] = {"authentication.kubernetes.io/pod-name": ["web-9"]}
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


async def certificate(
    plane: ControlPlane, api: Cluster, token: str = TOKEN, *, bound: bool = False
) -> tuple[bytes, bytes, bytes]:
    """As the agent gets it: roots from the ConfigMap, chain from the CA. `bound`: by the token of Pod web-9."""
    token = BOUND if bound else token
    root = join(roots_of(api)).encode()
    trusted = ",".join(fingerprint(one) for one in roots_of(api))
    key = new_key()
    options = [("grpc.ssl_target_name_override", "istiod.istio-system.svc")]
    credentials = grpc.ssl_channel_credentials(root)
    async with grpc.aio.secure_channel(f"127.0.0.1:{plane.ports.ca}", credentials, options=options) as channel:
        call = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        request = IstioCertificateRequest(
            csr=signing_request(key, "ignored").decode(),
            validity_duration=3600,
            metadata={"fields": [{"key": TRUSTED_ROOTS, "value": {"string_value": trusted}}]},
        )
        response = await call(request, metadata=(("authorization", f"Bearer {token}"),))
    *chain, roots = response.cert_chain
    return private_key_pem(key), "".join(chain).encode(), roots.encode()


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


def proxied_pod() -> dict[str, Any]:
    obj = pod("web-9", "web", "web")
    obj["spec"]["containers"].append({"name": "istio-proxy", "image": "proxyv2"})
    return obj


def roots_of(api: Cluster, namespace: str = "default") -> list[x509.Certificate]:
    """As Pods there read them."""
    copy = api._objects[WELL_KNOWN.configmaps].get((namespace, "istio-ca-root-cert"))
    return x509.load_pem_x509_certificates(copy["data"]["root-cert.pem"].encode()) if copy else []


def bundles(api: Cluster) -> set[str]:
    """What the API server checks our webhooks against."""
    kinds = (WELL_KNOWN.mutating_webhooks, WELL_KNOWN.validating_webhooks)
    hooks = [hook for kind in kinds for one in api._objects[kind].values() for hook in one["webhooks"]]
    return {base64.b64decode(hook["clientConfig"].get("caBundle", "")).decode() for hook in hooks}


async def issuer(plane: ControlPlane, api: Cluster) -> x509.Certificate:
    """The root of the certificate that an agent is given now, by this replica."""
    _, chain, roots = await certificate(plane, api, bound=True)
    leaf = x509.load_pem_x509_certificates(chain)[-1]
    return next(
        root for root in x509.load_pem_x509_certificates(roots) if leaf.issuer == root.subject and signed(leaf, root)
    )


def signed(leaf: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


async def shown(plane: ControlPlane) -> set[bytes]:
    """Who signed what istiod shows on its three ports with TLS, as clients that trust the published roots see it."""
    ports = (plane.ports.ads, plane.ports.ca, plane.ports.webhooks)
    pems = [await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) for port in ports]
    return {key_identifier(x509.load_pem_x509_certificate(pem.encode())) for pem in pems}


def key_identifier(leaf: x509.Certificate) -> bytes:
    return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""


def key_id(root: x509.Certificate) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(root.public_key()).digest


async def follows(api: Cluster, planes: tuple[ControlPlane, ControlPlane], old: x509.Certificate) -> x509.Certificate:
    """A succession from here to its end, with two replicas that are asked by turns; the new root."""
    first, second = planes
    await until(lambda: len(roots_of(api)) == 2 and len(roots_of(api, "istio-system")) == 2)
    assert roots_of(api)[0] == old, "who signs comes first"
    new = roots_of(api)[1]
    await until(lambda: bundles(api) == {join((old, new))})
    assert await issuer(first, api) == old, "trusted, and does not sign yet; now the Pod has said that it trusts it"
    await until(lambda: roots_of(api) == [new, old])
    await until(lambda: {plane.certificates.authority.current.phase for plane in planes} == {"retiring"})
    assert {await issuer(first, api), await issuer(second, api)} == {new}
    assert [await shown(plane) for plane in planes] == [{key_id(new)}] * 2
    await until(lambda: roots_of(api) == roots_of(api, "istio-system") == [new])
    await until(lambda: bundles(api) == {join((new,))})
    return new


async def test_one_root_follows_another_while_two_replicas_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SETTLED_AFTER", 0.3)
    api = await cluster()
    await api.create(WELL_KNOWN.pods, proxied_pod(), "default")
    async with istiod(api) as first, istiod(api) as second:
        await until(lambda: len(roots_of(api)) == 1)
        (old,) = roots_of(api)
        assert await issuer(second, api) == old
        asked = {"metadata": {"annotations": {authority_secrets.ROTATE: "now"}}}
        await api.patch(WELL_KNOWN.secrets, "istio-ca-secret", asked, "istio-system")
        new = await follows(api, (first, second), old)

        await api.create(WELL_KNOWN.secrets, plugged_in("broken") | {"data": {}}, "istio-system")
        await until(lambda: "has no" in first.certificates.authority.problem)
        assert await issuer(first, api) == new, "what cannot sign changes nothing"

        given = plugged_in("one")
        await api.replace(WELL_KNOWN.secrets, given, "istio-system")
        third = await follows(api, (first, second), new)
        assert join((third,)).encode() == base64.b64decode(given["data"]["root-cert.pem"])
        assert first.certificates.authority.problem == ""
    async with istiod(api) as again:
        assert again.certificates.authority.current.trusted == (third,), "a restart changes nothing"
        await api.delete(WELL_KNOWN.secrets, "cacerts", "istio-system")
        await until(lambda: roots_of(api) == [third, new])
    async with istiod(api) as again:
        current = again.certificates.authority.current
        assert (current.phase, current.trusted) == ("spreading", (third, new)), "nor in the middle of a succession"
        assert await issuer(again, api) == third


def plugged_in(name: str) -> dict[str, Any]:
    root = new_root(name, datetime.now(UTC), x509.random_serial_number(), kind=KeyKind(rsa_bits=2048))
    certificate, key = root.to_pem()
    data = {"ca-cert.pem": certificate, "ca-key.pem": key, "cert-chain.pem": certificate, "root-cert.pem": certificate}
    return authority_secrets.secret("cacerts", "istio-system", "Opaque", data)


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
