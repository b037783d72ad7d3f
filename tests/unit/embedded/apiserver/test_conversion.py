"""An autoscaler in autoscaling/v1 and v2."""

import pytest

from mizzen.embedded.apiserver import conversion
from mizzen.embedded.apiserver.resources import BUILT_INS

KINDS = {each.resource.version: each for each in BUILT_INS if each.resource.kind == "HorizontalPodAutoscaler"}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
MEMORY = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}


def autoscaler(**spec):
    metadata = {"name": "d", "annotations": {"a": "b"}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 4, **spec},
        "status": {"currentReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}]},
    }


def copied(document):
    return {**document, "metadata": dict(document["metadata"])}


@pytest.mark.parametrize(
    "spec", [{"metrics": [CPU]}, {"metrics": [CPU, MEMORY], "behavior": {"scaleUp": {"selectPolicy": "Min"}}}, {}]
)
def test_nothing_is_lost_in_the_older_version(spec):
    older = conversion.to_served(KINDS["v1"], copied(autoscaler(**spec)))
    assert older["apiVersion"] == "autoscaling/v1"
    assert older["spec"].get("targetCPUUtilizationPercentage") == (70 if spec else None)
    assert not {"metrics", "behavior"} & older["spec"].keys() and older["status"] == {"currentReplicas": 2}
    assert conversion.to_stored(KINDS["v1"], older) == autoscaler(**spec)


def test_the_older_version_can_be_changed():
    older = conversion.to_served(KINDS["v1"], copied(autoscaler(metrics=[CPU, MEMORY])))
    older["spec"]["targetCPUUtilizationPercentage"] = 50
    shares = [each["resource"]["target"].get("averageUtilization") for each in stored_metrics(older)]
    assert shares == [50, None]
    del older["spec"]["targetCPUUtilizationPercentage"]
    assert stored_metrics(older) == [MEMORY]
    older["metadata"]["annotations"][conversion.UNSAID] = "nonsense"
    assert "metrics" not in conversion.to_stored(KINDS["v1"], older)["spec"]


def stored_metrics(older):
    return conversion.to_stored(KINDS["v1"], older)["spec"]["metrics"]
