"""What `x authz check` reads out of a proxy."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.explain.authorization import NOTHING, PolicyRow, enforced_policies, pod_or_suggestion
from mizzen.kube.api import WELL_KNOWN, NotFound
from mizzen.kube.memory import MemoryApi

HTTP = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
NETWORK = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC"


def rules(action: str, *names: str) -> dict[str, Any]:
    """ALLOW is protobuf's default and therefore not written."""
    return {**({} if action == "ALLOW" else {"action": action}), "policies": {name: {} for name in names}}


def dump(*filters: dict[str, Any], listener: dict[str, Any] | None = None) -> dict[str, Any]:
    slots = [{"ecds_filter": {"name": "x", "typed_config": one}} for one in filters]
    listeners = [{"active_state": {"listener": listener or {}}}]
    return {
        "configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": slots[:1]},
            {"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": slots[1:]},
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": listeners},
        ]
    }


def test_rows_are_grouped_by_action_and_count_rules_once() -> None:
    found = enforced_policies(
        dump(
            {"@type": HTTP, "rules": rules("ALLOW", "ns[b]-policy[z]-rule[0]", "ns[a]-policy[y]-rule[0]")},
            {"@type": HTTP, "rules": rules("DENY", "ns[a]-policy[x]-rule[0]", "ns[a]-policy[x]-rule[1]")},
            {"@type": NETWORK, "rules": rules("DENY", "ns[a]-policy[x]-rule[1]")},
            {"@type": HTTP, "rules": rules("LOG", "ns[a]-policy[l]-rule[0]")},
            {"@type": HTTP, "shadow_rules": rules("DENY", "istio-ext-authz-ns[a]-policy[c]-rule[0]")},
        )
    )
    assert [(row.action, row.name, row.rules) for row in found] == [
        ("DENY", "x.a", 2),
        ("ALLOW", "y.a", 1),
        ("ALLOW", "z.b", 1),
        ("LOG", "l.a", 1),
        ("CUSTOM", "c.a", 1),
    ]


def test_nothing_that_is_allowed_is_a_row_and_dry_runs_are_none() -> None:
    allowed = {"@type": HTTP, "rules": {}}
    tried = {"@type": HTTP, "shadow_rules": rules("DENY", "ns[a]-policy[x]-rule[0]")}
    assert enforced_policies(dump(allowed, tried)) == [PolicyRow(action="ALLOW", name=NOTHING, rules=1)]
    assert enforced_policies(dump({"@type": HTTP})) == []


def test_filters_in_listeners_count_and_fallbacks_of_slots_do_not() -> None:
    """A saved dump of somebody else's control plane has them there."""
    inline = {"typed_config": {"@type": HTTP, "rules": rules("DENY", "ns[a]-policy[x]-rule[0]")}}
    slot = {"config_discovery": {"default_config": {"@type": HTTP, "rules": {}}}}
    found = enforced_policies(dump(listener={"filter_chains": [{"filters": [inline, slot]}]}))
    assert [row.name for row in found] == ["x.a"]


async def test_a_name_that_was_meant_is_suggested() -> None:
    api = MemoryApi()
    for name in ("details-v1", "productpage-v1"):
        metadata = {"name": name, "namespace": "default"}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {}}
        await api.create(WELL_KNOWN.deployments, deployment, "default")
    with pytest.raises(NotFound, match="did you mean productpage-v1"):
        await pod_or_suggestion(api, "deployment/productpage", "default")
    with pytest.raises(NotFound) as nothing_like_it:
        await pod_or_suggestion(api, "deployment/zebra", "default")
    assert "did you mean" not in nothing_like_it.value.message
