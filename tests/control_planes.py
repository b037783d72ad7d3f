"""istiod as a whole against an API server in memory, which answers for the tokens of one service account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from cryptography import x509

from envoys import until
from mizzen.ca.authority import (
    fingerprint,
    join,
    new_key,
    private_key_pem,
    signing_request,
)
from mizzen.ca.messages import CA_METHOD, TRUSTED_ROOTS, IstioCertificateRequest, IstioCertificateResponse
from mizzen.controlplane.app import ControlPlane, Ports, Settings
from mizzen.install.manifests import manifests
from mizzen.install.options import read_options
from mizzen.install.types import resource_of
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi

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
        if work.done():
            work.result()  # raises what ended it
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
        response = await call(
            request, metadata=(("authorization", f"Bearer {token}"),), timeout=10, wait_for_ready=True
        )  # a replica publishes its root before it listens
    *chain, roots = response.cert_chain
    return private_key_pem(key), "".join(chain).encode(), roots.encode()


def roots_of(api: Cluster, namespace: str = "default") -> list[x509.Certificate]:
    """As Pods there read them."""
    copy = api._objects[WELL_KNOWN.configmaps].get((namespace, "istio-ca-root-cert"))
    return x509.load_pem_x509_certificates(copy["data"]["root-cert.pem"].encode()) if copy else []


def published(api: Cluster) -> bool:
    return any(one.object["metadata"]["name"] == "istio-ca-root-cert" for one in api._log)
