from __future__ import annotations

from typing import Any

import pytest

from mizzen.scope.endpoints import endpoints
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.workloads import canonical_name, canonical_revision
from worlds import table, world

HOST = "reviews.default.svc.cluster.local"
WORLD = """
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.1.2, ports: [{port: 9080, name: http}, {port: 80, name: other}]}
---
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}
ports: [{name: http, port: 9081}]
endpoints:
- {addresses: [10.1.0.2], nodeName: n1, targetRef: {kind: Pod, name: v2}}
- {addresses: [10.1.0.1], zone: z9, targetRef: {kind: Pod, name: v1}}
- {addresses: [10.1.0.3], conditions: {ready: false}}
---
kind: Pod
metadata:
  name: v1
  labels: {version: v1, app: reviews, pod-template-hash: abc, security.istio.io/tlsMode: istio}
  ownerReferences: [{kind: ReplicaSet, name: reviews-v1-abc, controller: true}]
---
kind: Pod
metadata: {name: v2, labels: {version: v2}}
---
kind: Node
metadata: {name: n1, namespace: '', labels: {topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1}}
---
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: none, labels: {version: v9}}]}
"""


def test_ready_addresses_in_order_with_their_place_and_workload() -> None:
    second, first = reversed(endpoints(world(WORLD), HOST, 9080))
    assert (first.address, first.port, first.zone, first.tls_mode) == ("10.1.0.1", 9081, "z9", "istio")
    assert first.workload == "reviews-v1;default;reviews;v1;Kubernetes"
    assert (second.address, second.region, second.zone) == ("10.1.0.2", "r1", "z1")


@pytest.mark.parametrize(
    ("subset", "found"), [("v1", ["10.1.0.1"]), ("none", []), ("unknown", []), ("", ["10.1.0.1", "10.1.0.2"])]
)
def test_subsets_choose_by_the_labels_of_pods(subset: str, found: list[str]) -> None:
    assert [one.address for one in endpoints(world(WORLD), HOST, 9080, subset)] == found


def test_what_is_unknown_has_no_endpoints() -> None:
    assert (
        endpoints(world(WORLD), HOST, 1) == endpoints(world(WORLD), HOST, 80) == endpoints(Snapshot(), HOST, 9080) == ()
    )


def test_unready_ones_are_published_when_the_service_says_so() -> None:
    eager = WORLD.replace("clusterIP:", "publishNotReadyAddresses: true, clusterIP:")
    assert [(one.address, one.ready) for one in endpoints(world(eager), HOST, 9080)][-1] == ("10.1.0.3", False)


@pytest.mark.parametrize("row", table("TestCanonicalService"))
def test_canonical_names(row: dict[str, Any]) -> None:
    assert canonical_name(row["labels"], row["workloadName"]) == row["expectedName"]
    assert canonical_revision(row["labels"]) == row["expectedRevision"]
