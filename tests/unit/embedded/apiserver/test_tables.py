"""What kubectl's tables say, above all about Pods."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mizzen.embedded.apiserver import tables
from mizzen.embedded.apiserver.resources import BUILT_INS, ResourceType, custom_types
from mizzen.embedded.apiserver.tables.cells import duration, selector
from mizzen.embedded.apiserver.tables.custom import json_path
from mizzen.embedded.apiserver.tables.kinds import COLUMNS
from mizzen.embedded.apiserver.tables.pods import summary

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUNNING: dict[str, Any] = {"state": {"running": {}}, "ready": True, "started": True}
DONE: dict[str, Any] = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}


def kind(storage: str) -> ResourceType:
    return next(each for each in BUILT_INS if each.storage == storage)


def pod(
    *apps: dict[str, Any], inits: list[dict[str, Any]] | None = None, sidecars: int = 0, **status: Any
) -> dict[str, Any]:
    """`apps` and `inits` are container statuses; the last `sidecars` inits restart always."""
    names = [f"i{number}" for number in range(len(inits or []))]
    always = names[len(names) - sidecars :]
    spec: dict[str, Any] = {
        "containers": [{"name": f"c{number}"} for number in range(len(apps))],
        "initContainers": [{"name": name, **({"restartPolicy": "Always"} if name in always else {})} for name in names],
    }
    found: dict[str, Any] = {"phase": "Running", **status}
    found["containerStatuses"] = [{"name": f"c{number}", **each} for number, each in enumerate(apps)]
    found["initContainerStatuses"] = [{"name": name, **each} for name, each in zip(names, inits or [], strict=True)]
    return {"metadata": {"name": "p"}, "spec": spec, "status": found}


def waiting(reason: str, restarts: int = 0) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}, "restartCount": restarts}


@pytest.mark.parametrize(
    ("given", "ready", "status"),
    [
        (pod(RUNNING), "1/1", "Running"),
        (pod(waiting("CrashLoopBackOff", 3)), "0/1", "CrashLoopBackOff"),
        (pod(waiting("ImagePullBackOff"), phase="Pending"), "0/1", "ImagePullBackOff"),
        (pod(DONE, phase="Succeeded"), "0/1", "Completed"),
        (pod({"state": {"terminated": {"exitCode": 7}}}), "0/1", "ExitCode:7"),
        (pod({"state": {"terminated": {"signal": 9, "exitCode": 137}}}), "0/1", "Signal:9"),
        (pod(waiting("PodInitializing"), inits=[waiting("PodInitializing")], phase="Pending"), "0/1", "Init:0/1"),
        (pod(waiting("PodInitializing"), inits=[DONE, {"state": {"running": {}}}]), "0/1", "Init:1/2"),
        (pod(waiting("PodInitializing"), inits=[waiting("CrashLoopBackOff")]), "0/1", "Init:CrashLoopBackOff"),
        (pod(RUNNING, inits=[RUNNING], sidecars=1), "2/2", "Running"),
        (pod(RUNNING, inits=[DONE, {**RUNNING, "ready": False}], sidecars=1), "1/2", "Running"),
        (pod(waiting("PodInitializing"), inits=[{"state": {"running": {}}}], sidecars=1), "0/2", "Init:0/1"),
        (pod(RUNNING, phase="Running", reason="Evicted"), "1/1", "Evicted"),
    ],
)
def test_pods(given: dict[str, Any], ready: str, status: str) -> None:
    found = summary(given)
    assert (f"{found.ready}/{found.total}", found.reason) == (ready, status)


def test_a_pod_that_is_being_deleted() -> None:
    given = pod(RUNNING)
    given["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert summary(given).reason == "Terminating"


def test_restarts_say_when() -> None:
    last = {"terminated": {"finishedAt": "2026-01-01T11:55:00Z"}}
    given = pod({**RUNNING, "restartCount": 2, "lastState": last})
    _, rows = tables.render(kind("pods"), [given], NOW)
    assert rows[0][3] == "2 (5m ago)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (49 * 3600, "2d1h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
    ],
)
def test_durations_as_kubernetes_writes_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_services() -> None:
    ports = [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]
    spec = {"type": "LoadBalancer", "clusterIP": "10.96.1.1", "ports": ports, "selector": {"b": "2", "a": "1"}}
    service = {"metadata": {"name": "s", "creationTimestamp": "2026-01-01T11:00:00Z"}, "spec": spec}
    _, rows = tables.render(kind("services"), [service], NOW)
    assert rows[0] == ["s", "LoadBalancer", "10.96.1.1", "<pending>", "80:30080/TCP,53/UDP", "60m", "a=1,b=2"]


def test_every_table_can_show_an_object_that_says_little() -> None:
    for storage in COLUMNS:
        obj: dict[str, Any] = {"metadata": {"name": "x"}, "spec": {"containers": []}}
        columns, rows = tables.render(kind(storage), [obj], NOW)
        assert len(columns) == len(rows[0]), storage


def test_selectors_on_one_line() -> None:
    expressions = [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}]
    assert selector({"matchLabels": {"app": "y"}, "matchExpressions": expressions}) == "app=y,tier in (a,b),!x"
    assert selector({}) == "<none>"


def test_printer_columns_of_custom_resources() -> None:
    columns = [
        {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {"name": "v1", "served": True, "storage": True, "additionalPrinterColumns": columns}
    names = {"plural": "things", "kind": "Thing"}
    crd = {"spec": {"group": "x.y", "scope": "Namespaced", "names": names, "versions": [version]}}
    obj = {
        "metadata": {"name": "t", "creationTimestamp": "2026-01-01T11:59:00Z"},
        "spec": {"hosts": ["a", "b"]},
        "status": {"conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]},
    }
    _, rows = tables.render(custom_types(crd)[0], [obj, {"metadata": {"name": "u"}}], NOW)
    assert rows == [["t", '["a","b"]', "True", "60s"], ["u", None, None, None]]


def test_json_paths() -> None:
    obj = {"a": {"b.c": 1, "list": [{"n": 1}, {"n": 2}]}}
    assert json_path(obj, ".a.b\\.c") == [1]
    assert json_path(obj, ".a['b.c']") == [1]
    assert json_path(obj, "{.a.list[*].n}".strip("{}")) == [1, 2]
    assert json_path(obj, ".a.list[1].n") == [2]
    assert json_path(obj, ".a.nothing.n") == []
