"""What users get wrong, and what Kubernetes 1.32 answers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mizzen.embedded.apiserver.defaults import default
from mizzen.embedded.apiserver.validation_kinds import validate_create, validate_update
from mizzen.embedded.apiserver.validation_pod import amount
from mizzen.kube.api import WELL_KNOWN, Resource

BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CRONJOBS = Resource("batch", "v1", "cronjobs", "CronJob")
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
LABEL_REGEX = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def told(resource: Resource, obj: dict[str, Any]) -> list[str]:
    given = default(resource, copy.deepcopy({"metadata": {}, **obj}))
    return [f"{cause.field}: {cause.message}" for cause in validate_create(resource, given)]


def pod(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "i", **container}]}}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, **pod()}
    return {"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}}


def service(*ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"ports": list(ports), **spec}}


@pytest.mark.parametrize(
    ("resource", "obj"),
    [
        (WELL_KNOWN.pods, pod(ports=[{"containerPort": 80, "name": "http"}])),
        (WELL_KNOWN.deployments, deployment()),
        (WELL_KNOWN.services, service({"port": 80, "targetPort": "http-web"})),
        (WELL_KNOWN.services, service(clusterIP="None", selector={"app": "x"})),
        (WELL_KNOWN.services, {"spec": {"type": "ExternalName", "externalName": "example.com."}}),
        (WELL_KNOWN.jobs, {"spec": {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}}}),
        (WELL_KNOWN.configmaps, {"data": {"a.b_C-1": "x"}}),
    ],
)
def test_good_objects(resource: Resource, obj: dict[str, Any]) -> None:
    assert told(resource, obj) == []


PODS: list[tuple[dict[str, Any], str]] = [
    ({"spec": {}}, "spec.containers: Required value"),
    (pod(name=""), "spec.containers[0].name: Required value"),
    (pod(image=""), "spec.containers[0].image: Required value"),
    (pod(image=" i"), 'spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace'),
    (
        pod(ports=[{"containerPort": 70000}]),
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        pod(ports=[{"containerPort": 1, "name": "a-very-long-port-name"}]),
        'spec.containers[0].ports[0].name: Invalid value: "a-very-long-port-name": must be no more than 15 characters',
    ),
    (
        pod(imagePullPolicy="Sometimes"),
        'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", '
        '"IfNotPresent", "Never"',
    ),
    (pod(volumeMounts=[{"name": "v", "mountPath": "/v"}]), 'spec.containers[0].volumeMounts[0].name: Not found: "v"'),
    (
        pod(livenessProbe={"periodSeconds": 1}),
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    ),
    (
        pod(resources={"limits": {"cpu": "500m"}, "requests": {"cpu": "1"}}),
        'spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m',
    ),
    (
        pod(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        'spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ),
]


@pytest.mark.parametrize(("obj", "expected"), PODS, ids=[text.partition(":")[0] for _, text in PODS])
def test_pods(obj: dict[str, Any], expected: str) -> None:
    assert told(WELL_KNOWN.pods, obj) == [expected]


def test_names_of_containers() -> None:
    found = told(
        WELL_KNOWN.pods,
        {"spec": {"containers": [{"name": "A", "image": "i"}], "initContainers": [{"name": "A", "image": "i"}]}},
    )
    assert found[0] == (
        'spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case '
        "alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or "
        f"'123-abc', regex used for validation is '{LABEL_REGEX}')"
    )
    assert found[1] == 'spec.initContainers[0].name: Duplicate value: "A"'


WORKLOADS: list[tuple[dict[str, Any], list[str]]] = [
    (
        deployment(selector={"matchLabels": {"app": "other"}}),
        [
            'spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` does not match '
            "template `labels`"
        ],
    ),
    (
        deployment(selector=None),
        [
            "spec.selector: Required value",
            'spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` does not match '
            "template `labels`",
        ],
    ),
    (deployment(replicas=-1), ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
    (
        deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
        ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    ),
    (
        deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
    ),
    (
        deployment(
            template={"metadata": {"labels": {"app": "web"}}, "spec": {**pod()["spec"], "restartPolicy": "Never"}}
        ),
        ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
    ),
]


@pytest.mark.parametrize(("obj", "expected"), WORKLOADS)
def test_deployments(obj: dict[str, Any], expected: list[str]) -> None:
    assert told(WELL_KNOWN.deployments, obj) == expected


def test_set_based_selectors() -> None:
    expressions = [{"key": "app", "operator": "In", "values": ["web"]}, {"key": "old", "operator": "DoesNotExist"}]
    assert told(WELL_KNOWN.deployments, deployment(selector={"matchExpressions": expressions})) == []
    expressions[0]["operator"] = "NotIn"
    assert len(told(WELL_KNOWN.deployments, deployment(selector={"matchExpressions": expressions}))) == 1


SERVICES: list[tuple[dict[str, Any], list[str]]] = [
    (service(), ["spec.ports: Required value"]),
    (
        service({"port": 80}, {"port": 81, "name": "b"}),
        ["spec.ports[0].name: Required value"],
    ),
    (service({"port": 0}), ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
    (
        service({"port": 80, "nodePort": 30000}),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    ),
    (
        service({"port": 80, "protocol": "HTTP"}),
        ['spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        service({"port": 80}, type="Cluster"),
        [
            'spec.type: Unsupported value: "Cluster": supported values: "ClusterIP", "ExternalName", "LoadBalancer", '
            '"NodePort"'
        ],
    ),
    (service(type="ExternalName"), ["spec.externalName: Required value"]),
]


@pytest.mark.parametrize(("obj", "expected"), SERVICES)
def test_services(obj: dict[str, Any], expected: list[str]) -> None:
    assert [text for text in told(WELL_KNOWN.services, obj) if "targetPort" not in text] == expected


def test_other_kinds() -> None:
    job = {"spec": {"template": pod()}}
    assert told(WELL_KNOWN.jobs, job) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Always": supported values: "Never", "OnFailure"'
    ]
    cron = {
        "spec": {
            "schedule": "* *",
            "jobTemplate": {"spec": {"template": {"spec": {**pod()["spec"], "restartPolicy": "Never"}}}},
        }
    }
    assert told(CRONJOBS, cron) == ['spec.schedule: Invalid value: "* *": expected exactly 5 fields, found 2: [* *]']
    assert told(WELL_KNOWN.configmaps, {"data": {"a b": ""}})[0].startswith(
        'data[a b]: Invalid value: "a b": a valid config key'
    )
    assert told(INGRESSES, {"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {}}]}}]}}) == [
        "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"
    ]
    assert told(BINDINGS, {"roleRef": {"kind": "Role", "name": ""}}) == ["roleRef.name: Required value"]
    hook = {"name": "x", "clientConfig": {"url": "https://x"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    assert told(WELL_KNOWN.mutating_webhooks, {"webhooks": [hook]}) == [
        'webhooks[0].name: Invalid value: "x": should be a domain with at least three segments separated by dots'
    ]


def test_autoscalers() -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    for version in ("v1", "v2"):
        kind = Resource("autoscaling", version, "horizontalpodautoscalers", "HorizontalPodAutoscaler")
        head = {"apiVersion": f"autoscaling/{version}"}
        assert told(kind, {**head, "spec": {"scaleTargetRef": target, "maxReplicas": 2}}) == []
        wrong = {**head, "spec": {"scaleTargetRef": {"kind": "Deployment"}, "minReplicas": 3, "maxReplicas": 2}}
        assert told(kind, wrong) == [
            "spec.scaleTargetRef.name: Required value",
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
        ]
        assert "spec.maxReplicas: Invalid value: 0: must be greater than 0" in told(kind, {**head, "spec": {}})


def test_a_stateful_set_changes_few_fields() -> None:
    old = default(WELL_KNOWN.statefulsets, {"metadata": {}, **deployment(serviceName="a")})
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 3
    assert validate_update(WELL_KNOWN.statefulsets, old, new) == []
    new["spec"]["serviceName"] = "b"
    assert (
        "updates to statefulset spec for fields other than"
        in validate_update(WELL_KNOWN.statefulsets, old, new)[0].message
    )


def test_amounts() -> None:
    assert amount("500m") * 2 == amount("1") == 1
    assert amount("1Ki") == 1024
    assert amount("1e3") == amount("1k") == 1000
