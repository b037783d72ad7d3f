"""Rules of roles: what they allow, and who may pass them on."""

from __future__ import annotations

import pytest

from mizzen.embedded.apiserver.rbac import Action, allows, describe, uncovered

PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


@pytest.mark.parametrize(
    ("rule", "action", "expected"),
    [
        (PODS, Action("get", "", "pods", "shop", "p"), True),
        (PODS, Action("delete", "", "pods"), False),
        (PODS, Action("get", "apps", "pods"), False),
        (PODS, Action("get", "", "pods/log"), False),
        ({**PODS, "resources": ["pods/*"]}, Action("get", "", "pods/log"), False),
        ({**PODS, "resources": ["*/log"]}, Action("get", "", "pods/log"), True),
        ({**PODS, "resources": ["*/log"]}, Action("get", "", "pods"), False),
        ({**PODS, "resources": ["*"]}, Action("get", "", "pods/log"), True),
        ({**PODS, "resourceNames": ["a"]}, Action("get", "", "pods", name="a"), True),
        ({**PODS, "resourceNames": ["a"]}, Action("get", "", "pods", name="b"), False),
        ({**PODS, "resourceNames": ["a"]}, Action("list", "", "pods"), False),
        ({**PODS, "verbs": ["*"], "apiGroups": ["*"]}, Action("watch", "x", "pods"), True),
        ({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}, Action("get", path="/metrics"), True),
        ({"nonResourceURLs": ["/logs/*"], "verbs": ["get"]}, Action("get", path="/logs/a/b"), True),
        ({"nonResourceURLs": ["/logs/*"], "verbs": ["get"]}, Action("get", path="/log"), False),
        ({"nonResourceURLs": ["*"], "verbs": ["get"]}, Action("get", "", "pods"), False),
        (PODS, Action("get", path="/api/v1/pods"), False),
    ],
)
def test_a_rule_allows(rule: dict[str, list[str]], action: Action, expected: bool) -> None:
    assert allows(rule, action) is expected


def test_what_nobody_holds_cannot_be_given() -> None:
    held = [PODS, {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["*"]}]
    assert uncovered([PODS], held) == []
    assert uncovered([{**PODS, "resourceNames": ["a"]}], held) == []
    named = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    assert uncovered([named], held) == [named]
    assert uncovered([{**named, "resourceNames": ["web"]}], held) == []
    assert uncovered([{**PODS, "verbs": ["get", "watch"]}], held) == [{**PODS, "verbs": ["watch"]}]
    assert uncovered([{"nonResourceURLs": ["/x"], "verbs": ["get"]}], held)


def test_rules_are_described_as_kubernetes_does() -> None:
    assert describe(PODS) == '{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}'
