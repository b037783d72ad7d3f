"""Installing waits for Pods, not for what a Deployment's status says of a former life."""

from __future__ import annotations

import pytest

from mizzen.install.apply import _available
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.memory import MemoryApi

DEPLOYMENT: JSON = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "istiod", "namespace": "istio-system"},
    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "istiod"}}},
    "status": {"observedGeneration": 9, "updatedReplicas": 1, "availableReplicas": 1},
}


def pod(ready: str, **metadata: str) -> JSON:
    return {
        "metadata": {"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}, **metadata},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(("ready", "available"), [("True", True), ("False", False)])
async def test_a_deployment_is_available_when_its_pods_are_ready(ready: str, available: bool) -> None:
    api = MemoryApi()
    await api.create(WELL_KNOWN.deployments, DEPLOYMENT, "istio-system")
    await api.create(WELL_KNOWN.pods, pod(ready), "istio-system")
    assert await _available(api, DEPLOYMENT) is available
