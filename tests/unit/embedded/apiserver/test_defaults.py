"""Defaults, as `kubectl get -o yaml` shows them on a real cluster of version 1.32."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mizzen.embedded.apiserver.defaults import default
from mizzen.embedded.apiserver.defaults_pod import pull_policy
from mizzen.kube.api import WELL_KNOWN, Resource

CONTAINER = {
    "imagePullPolicy": "IfNotPresent",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
POD_SPEC = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
    "schedulerName": "default-scheduler",
}


def run(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    done = default(resource, copy.deepcopy(obj))
    assert default(resource, copy.deepcopy(done)) == done, "defaulting twice must change nothing more"
    return done


def kind(group: str, name: str) -> Resource:
    return Resource(group, "v1", name.lower() + "s", name)


def test_a_deployment() -> None:
    given = {"metadata": {}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}}}
    assert run(WELL_KNOWN.deployments, given)["spec"] == {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"spec": {**POD_SPEC, "containers": [{"name": "c", "image": "i:1", **CONTAINER}]}},
    }


def test_zero_replicas_and_recreate_stay() -> None:
    given = {"metadata": {}, "spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}
    spec = run(WELL_KNOWN.deployments, given)["spec"]
    assert (spec["replicas"], spec["strategy"]) == (0, {"type": "Recreate"})


def test_a_pod_requests_what_it_limits() -> None:
    container = {
        "name": "c",
        "image": "i:1",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "2"}},
    }
    spec = run(WELL_KNOWN.pods, {"spec": {"containers": [container], "serviceAccountName": "bot"}})["spec"]
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert (spec["enableServiceLinks"], spec["serviceAccount"]) == (True, "bot")


def test_probes_ports_and_environment() -> None:
    container = {
        "name": "c",
        "image": "i",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 2},
        "livenessProbe": {"grpc": {"port": 80}},
        "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/stop"}}},
    }
    done = run(WELL_KNOWN.pods, {"spec": {"containers": [container], "hostNetwork": True}})["spec"]["containers"][0]
    assert done["imagePullPolicy"] == "Always"
    assert done["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert done["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    numbers = {"timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
    http = {"port": 80, "path": "/", "scheme": "HTTP"}
    assert done["readinessProbe"] == {"httpGet": http, "periodSeconds": 2, **numbers}
    assert done["livenessProbe"] == {"grpc": {"port": 80, "service": ""}, "periodSeconds": 10, **numbers}
    assert done["lifecycle"]["preStop"]["httpGet"] == {"port": 80, "path": "/stop", "scheme": "HTTP"}


def test_volumes() -> None:
    token = {"serviceAccountToken": {"path": "token"}}
    label = {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    volumes = [
        {"name": "scratch"},
        {"name": "conf", "configMap": {"name": "c"}},
        {"name": "disk", "hostPath": {"path": "/x"}},
        {"name": "all", "projected": {"sources": [token, label]}},
    ]
    done = run(WELL_KNOWN.pods, {"spec": {"containers": [], "volumes": volumes}})["spec"]["volumes"]
    assert done[0] == {"name": "scratch", "emptyDir": {}}
    assert done[1]["configMap"]["defaultMode"] == 420
    assert done[2]["hostPath"]["type"] == ""
    assert done[3]["projected"]["defaultMode"] == 420
    assert done[3]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert done[3]["projected"]["sources"][1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, expected: str) -> None:
    assert pull_policy(image) == expected


def test_a_service() -> None:
    given = {"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}
    assert run(WELL_KNOWN.services, given)["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80},
            {"port": 53, "protocol": "UDP", "targetPort": "dns"},
        ],
    }


def test_services_seen_from_outside() -> None:
    balanced = run(WELL_KNOWN.services, {"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}})["spec"]
    assert balanced["externalTrafficPolicy"] == "Cluster"
    assert balanced["allocateLoadBalancerNodePorts"] is True
    assert balanced["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    named = run(WELL_KNOWN.services, {"spec": {"type": "ExternalName", "externalName": "example.com"}})["spec"]
    assert named == {"type": "ExternalName", "externalName": "example.com", "sessionAffinity": "None"}


def test_a_job_selects_its_own_pods() -> None:
    spec = run(WELL_KNOWN.jobs, {"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}})["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 6)
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u",
        "job-name": "j",
    }


def test_a_work_queue_job_has_no_completions() -> None:
    assert "completions" not in run(WELL_KNOWN.jobs, {"metadata": {}, "spec": {"parallelism": 2}})["spec"]


def test_stateful_and_daemon_sets() -> None:
    stateful = run(WELL_KNOWN.statefulsets, {"spec": {"volumeClaimTemplates": [{"spec": {}}]}})["spec"]
    assert stateful["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert stateful["volumeClaimTemplates"][0]["spec"] == {"volumeMode": "Filesystem"}
    daemon = run(WELL_KNOWN.daemonsets, {"spec": {}})["spec"]
    assert daemon["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_webhooks() -> None:
    hook = {"name": "h", "clientConfig": {"service": {"name": "s"}}, "rules": [{"resources": ["pods"]}]}
    done = run(WELL_KNOWN.mutating_webhooks, {"webhooks": [hook]})["webhooks"][0]
    assert (done["failurePolicy"], done["timeoutSeconds"], done["reinvocationPolicy"]) == ("Fail", 10, "Never")
    assert (done["clientConfig"]["service"]["port"], done["rules"][0]["scope"]) == (443, "*")


def test_small_kinds() -> None:
    assert run(WELL_KNOWN.secrets, {})["type"] == "Opaque"
    policy = run(kind("networking.k8s.io", "NetworkPolicy"), {"spec": {"egress": [{"ports": [{"port": 53}]}]}})["spec"]
    assert (policy["policyTypes"], policy["egress"][0]["ports"][0]["protocol"]) == (["Ingress", "Egress"], "TCP")
    binding = {"roleRef": {"kind": "Role"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}
    done = run(kind("rbac.authorization.k8s.io", "RoleBinding"), binding)
    assert done["subjects"] == [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]


def test_custom_resources_take_their_schemas_defaults() -> None:
    mode = {"type": "string", "default": "Auto"}
    limits = {"type": "object", "default": {}, "properties": {"max": {"type": "integer", "default": 5}}}
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"mode": mode, "limits": limits}}},
    }
    done = default(Resource("example.com", "v1", "widgets", "Widget"), {"spec": {"mode": None}}, schema)
    assert done == {"spec": {"mode": "Auto", "limits": {"max": 5}}}
    assert limits["default"] == {}, "the schema itself must stay as it is"
