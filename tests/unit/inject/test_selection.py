from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mizzen.inject.selection import INJECT, decision, selected
from mizzen.inject.settings import Policy
from mizzen.inject.workload import canonical_name, canonical_revision

TABLES = Path(__file__).parents[4] / "shared/cases/tables.yaml"
ENABLED, DISABLED = {"istio-injection": "enabled"}, {"istio-injection": "disabled"}


@pytest.mark.parametrize(
    ("namespace", "pod", "expected"),
    [
        (ENABLED, {INJECT: "true"}, "namespace"),
        (ENABLED, {INJECT: "false"}, None),
        (ENABLED, {}, "namespace"),
        (DISABLED, {INJECT: "true"}, None),
        (DISABLED, {}, None),
        ({"istio.io/rev": "default"}, {INJECT: "true"}, "rev.namespace"),
        ({"istio.io/rev": "default"}, {INJECT: "false"}, None),
        ({"istio.io/rev": "default"}, {}, "rev.namespace"),
        ({"istio.io/rev": "other"}, {}, None),
        ({"istio.io/rev": "other", "istio-injection": "enabled"}, {}, "namespace"),
        ({}, {INJECT: "true"}, "object"),
        ({}, {INJECT: "false"}, None),
        ({}, {}, None),
        ({}, {"istio.io/rev": "default"}, "rev.object"),
    ],
)
def test_which_webhook_sees_a_pod(namespace: dict, pod: dict, expected: str | None) -> None:
    entry = selected(namespace, pod)
    assert (entry.name if entry else None) == (expected and f"{expected}.sidecar-injector.istio.io")


def test_namespaces_by_default_spare_the_system() -> None:
    assert selected({"kubernetes.io/metadata.name": "shop"}, {}, by_default=True)
    assert not selected({"kubernetes.io/metadata.name": "kube-system"}, {}, by_default=True)


def rows(test: str) -> list[dict]:
    if not TABLES.exists():
        pytest.skip(f"{TABLES} is not there")
    table = next(one for one in yaml.load(TABLES.read_text(), yaml.CSafeLoader) if one["test"] == test)
    return [row for row in table["rows"] if not row.get("__unresolved")]


def test_decisions_of_the_field() -> None:
    for row in rows("TestInjectRequired"):
        config, meta = row["config"], row.get("meta") or {}
        policy = Policy(
            policy=config["policy"],
            always_inject_selector=tuple(config.get("alwaysInjectSelector", ())),
            never_inject_selector=tuple(config.get("neverInjectSelector", ())),
        )
        found = decision({"metadata": meta, "spec": row["podSpec"]}, meta.get("namespace", ""), policy)
        assert found.inject == row["want"], (meta.get("name"), found.reason)


def test_canonical_names_of_the_field() -> None:
    for row in rows("TestCanonicalService"):
        assert canonical_name(row["labels"], row["workloadName"]) == row["expectedName"], row["name"]
        assert canonical_revision(row["labels"]) == row["expectedRevision"], row["name"]


@pytest.mark.parametrize(
    ("labels", "annotations", "inject"),
    [
        ({INJECT: "false"}, {INJECT: "true"}, False),
        ({INJECT: "true"}, {INJECT: "false"}, True),
        ({}, {INJECT: "false"}, False),
        ({INJECT: "yes please"}, {INJECT: "false"}, True),
        ({}, {"sidecar.istio.io/status": "{}"}, False),
    ],
)
def test_label_beats_annotation_and_nonsense_falls_to_the_policy(labels: dict, annotations: dict, inject: bool) -> None:
    pod = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {}}
    assert decision(pod, "default", Policy()).inject is inject
