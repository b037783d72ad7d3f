"""What Ingresses are told: the gateway's addresses, and what is wrong."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mizzen.api.decode import to_json
from mizzen.api.ingress import Ingress
from mizzen.controlplane.ingress_status import IngressStatusWriter, addresses
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi
from mizzen.scope.snapshot import Snapshot, present
from worlds import objects, world

GATEWAY = """
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {type: LoadBalancer, clusterIP: 10.96.0.9, ports: [{port: 80}], externalIPs: [203.0.113.9]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.7}, {hostname: edge.example.com}]}}
"""
EXTERNAL = GATEWAY.replace("LoadBalancer,", "ExternalName, externalName: edge.example.com,")
INGRESS = """
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, uid: one, annotations: {kubernetes.io/ingress.class: istio}}
spec: {tls: [{hosts: [a.org]}], defaultBackend: {service: {name: web, port: {number: 80}}}}
"""
NODES = """
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'ingressService: ""'}
---
kind: Pod
metadata: {name: in, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {nodeName: here}
---
kind: Node
metadata: {name: here, namespace: ""}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 198.51.100.1}]}
"""
ADDRESSES = [{"ip": "192.0.2.7"}, {"ip": "203.0.113.9"}, {"hostname": "edge.example.com"}]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (GATEWAY, ADDRESSES),
        (EXTERNAL, [{"hostname": "edge.example.com"}]),
        (NODES, [{"ip": "198.51.100.1"}]),
        ("", []),
    ],
)
def test_where_the_gateway_answers(given: str, wanted: list[dict[str, str]]) -> None:
    assert addresses(world(given) if given else Snapshot()) == wanted


async def settled(api: MemoryApi, writer: IngressStatusWriter, snapshot: Snapshot) -> dict[str, Any]:
    """The stored Ingress after all writes."""
    writer.settle(snapshot, ())
    running = asyncio.create_task(writer.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return await api.get(WELL_KNOWN.ingresses, "web", "default")


async def test_addresses_are_written_and_taken_back_and_problems_are_events() -> None:
    api = MemoryApi()
    (stored,) = (to_json(one) for one in objects(INGRESS))
    await api.create(WELL_KNOWN.ingresses, stored, "default")
    writer, snapshot = IngressStatusWriter(api, "istiod-1"), world(GATEWAY + INGRESS)
    assert (await settled(api, writer, snapshot))["status"]["loadBalancer"]["ingress"] == ADDRESSES
    events = (await api.list(WELL_KNOWN.events, "default")).items
    assert {one["message"].partition(":")[0] for one in events} == {
        "spec.tls[0].secretName",
        "spec.defaultBackend.service.name",
    }
    assert {(one["type"], one["involvedObject"]["name"]) for one in events} == {("Warning", "web")}
    again = await settled(api, writer, snapshot)
    assert len((await api.list(WELL_KNOWN.events, "default")).items) == len(events)
    (others,) = objects(INGRESS.replace("class: istio", "class: nginx"))
    assert isinstance(others, Ingress)
    left = await settled(api, writer, snapshot.apply(present(others)))
    assert not left["status"]["loadBalancer"].get("ingress")
    assert again["metadata"]["resourceVersion"] != left["metadata"]["resourceVersion"]
