"""An autoscaler in autoscaling/v1 and v2."""

import pytest

from mizzen.embedded.apiserver import conversion
from mizzen.embedded.apiserver.resources import BUILT_INS

KINDS = {each.resource.version: each for each in BUILT_INS if each.resource.kind == "HorizontalPodAutoscaler"}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}


def autoscaler(**spec):
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "d", "annotations": {"a": "b"}},
        "spec": {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 4, **spec},
        "status": {"currentReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}]},
    }


@pytest.mark.parametrize(
    "spec", [{"metrics": [CPU]}, {"metrics": [CPU, MEMORY], "behavior": {"scaleUp": {"selectPolicy": "Min"}}}, {}]
)
def test_nothing_is_lost_in_the_older_version(spec):
    older = conversion.to_served(KINDS["v1"], autoscaler(**spec))
    assert older["apiVersion"] == "autoscaling/v1"
    assert older["spec"].get("targetCPUUtilizationPercentage") == (70 if spec else None)
    assert not {"metrics", "behavior"} & older["spec"].keys() and older["status"] == {"currentReplicas": 2}
    stored = conversion.to_stored(KINDS["v1"], older, autoscaler(**spec))
    assert stored == autoscaler(**spec) and stored["metadata"] is older["metadata"]


def test_the_older_version_can_be_changed():
    before = autoscaler(metrics=[CPU, MEMORY])
    older = conversion.to_served(KINDS["v1"], dict(before))
    older["spec"]["targetCPUUtilizationPercentage"] = 50
    metrics = conversion.to_stored(KINDS["v1"], older, before)["spec"]["metrics"]
    assert [each["resource"]["target"].get("averageUtilization") for each in metrics] == [50, None]
    del older["spec"]["targetCPUUtilizationPercentage"]
    assert conversion.to_stored(KINDS["v1"], older, before)["spec"]["metrics"] == [MEMORY]
    assert "metrics" not in conversion.to_stored(KINDS["v1"], older, {})["spec"]


def test_the_stored_version_is_taken_as_it_is():
    assert conversion.to_served(KINDS["v2"], autoscaler()) == autoscaler()
    assert conversion.to_stored(KINDS["v2"], autoscaler(), {}) == autoscaler()
