"""Strategic merge patch against the live objects that kubectl meets; cases follow Kubernetes' documentation."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mizzen.embedded.apiserver.patch import STRATEGIC_MERGE_PATCH, PatchError, apply_patch
from mizzen.kube.api import WELL_KNOWN, Resource

VIRTUAL_SERVICES = Resource("networking.istio.io", "v1", "virtualservices", "VirtualService")


def merge(live: dict[str, Any], patch: dict[str, Any], resource: Resource = WELL_KNOWN.deployments) -> dict[str, Any]:
    before = copy.deepcopy((live, patch))
    merged = apply_patch(STRATEGIC_MERGE_PATCH, resource, live, patch)
    assert (live, patch) == before, "arguments must stay as they are"
    return merged


def pod_spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def containers(*items: dict[str, Any]) -> dict[str, Any]:
    return pod_spec({"containers": list(items)})


def test_a_container_is_found_by_its_name() -> None:
    live = containers(
        {"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}]}, {"name": "log", "image": "l"}
    )
    patch = containers({"name": "app", "image": "app:2"})
    assert merge(live, patch) == containers(
        {"name": "app", "image": "app:2", "env": [{"name": "A", "value": "1"}]}, {"name": "log", "image": "l"}
    )


def test_set_element_order_puts_a_new_container_where_the_user_wrote_it() -> None:
    live = containers({"name": "b", "image": "b"}, {"name": "injected", "image": "i"})
    patch = pod_spec(
        {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "a", "image": "a"}],
        }
    )
    names = [item["name"] for item in merge(live, patch)["spec"]["template"]["spec"]["containers"]]
    assert names == ["a", "b", "injected"]


def test_set_element_order_alone_reorders() -> None:
    live = containers({"name": "a"}, {"name": "b"})
    patch = pod_spec({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})
    assert merge(live, patch) == containers({"name": "b"}, {"name": "a"})


def test_patch_elements_missing_from_the_order_are_refused() -> None:
    patch = pod_spec({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]})
    with pytest.raises(PatchError, match="does not match") as error:
        merge(containers({"name": "a"}), patch)
    assert error.value.code == 400


def test_patch_delete_removes_one_element() -> None:
    live = containers({"name": "a"}, {"name": "b"})
    assert merge(live, containers({"$patch": "delete", "name": "a"})) == containers({"name": "b"})


def test_patch_replace_in_a_list_replaces_all_elements() -> None:
    live = containers({"name": "a"}, {"name": "b"})
    patch = containers({"name": "c"}, {"$patch": "replace"})
    assert merge(live, patch) == containers({"name": "c"})


def test_patch_replace_on_an_object() -> None:
    live = {"metadata": {"labels": {"a": "1"}}}
    patch = {"metadata": {"labels": {"$patch": "replace", "b": "2"}}}
    assert merge(live, patch) == {"metadata": {"labels": {"b": "2"}}}


def test_retain_keys_changes_the_strategy_of_a_deployment() -> None:
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert merge(live, patch) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_retain_keys_swaps_the_source_of_a_volume() -> None:
    live = pod_spec({"volumes": [{"name": "data", "emptyDir": {}}]})
    patch = pod_spec({"volumes": [{"name": "data", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]})
    assert merge(live, patch) == pod_spec({"volumes": [{"name": "data", "configMap": {"name": "c"}}]})


def test_primitive_lists_merge_and_delete() -> None:
    live = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        }
    }
    assert merge(live, patch) == {"metadata": {"finalizers": ["c", "b"]}}


def test_lists_without_a_merge_strategy_are_replaced() -> None:
    live = containers({"name": "a", "command": ["x", "y"]})
    patch = containers({"name": "a", "command": ["z"]})
    assert merge(live, patch) == containers({"name": "a", "command": ["z"]})


def test_service_ports_merge_by_port() -> None:
    live = {"spec": {"ports": [{"port": 80, "nodePort": 30080}, {"port": 443}]}}
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
    merged = merge(live, patch, WELL_KNOWN.services)
    assert merged == {"spec": {"ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}, {"port": 443}]}}


def test_null_removes_and_new_values_lose_their_nulls() -> None:
    live = {"metadata": {"labels": {"a": "1"}}}
    patch = {"metadata": {"labels": {"a": None, "b": "2"}, "annotations": {"x": None}}}
    assert merge(live, patch) == {"metadata": {"labels": {"b": "2"}, "annotations": {}}}


def test_restarting_a_rollout_touches_one_annotation() -> None:
    live = {"spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a"}]}}}}
    annotation = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    merged = merge(live, {"spec": {"template": {"metadata": {"annotations": annotation}}}})
    assert merged["spec"]["template"]["metadata"] == {"labels": {"app": "x"}, "annotations": annotation}


def test_an_element_without_its_merge_key_is_refused() -> None:
    with pytest.raises(PatchError, match="does not contain declared merge key: name"):
        merge(containers({"name": "a"}), containers({"image": "x"}))


def test_custom_resources_know_no_strategic_merge() -> None:
    with pytest.raises(PatchError, match=r"application/json-patch\+json, application/merge-patch\+json") as error:
        merge({}, {}, VIRTUAL_SERVICES)
    assert (error.value.code, error.value.reason) == (415, "UnsupportedMediaType")
