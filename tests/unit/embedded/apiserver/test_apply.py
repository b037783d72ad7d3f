"""Server-side apply: ownership, conflicts and removal, as Kubernetes documents them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mizzen.embedded.apiserver.apply import LAST_APPLIED, ApplyConflict, ApplyError, Manager, apply, track
from mizzen.kube.api import WELL_KNOWN, Resource

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
KUBECTL = Manager("kubectl", "Apply", "apps/v1")
GITOPS = Manager("gitops", "Apply", "apps/v1")
SCALER = Manager("scaler", "Update", "apps/v1")
WIDGETS = Resource("example.com", "v1", "widgets", "Widget")


def deployment(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", **metadata}}
    return {**document, "spec": spec} if spec is not None else document


def pods(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": list(containers)}}, **more}


def run(live: Any, wanted: Any, manager: Manager = KUBECTL, now: str = NOW, **options: Any) -> dict[str, Any]:
    return apply(WELL_KNOWN.deployments, live, wanted, manager, now, **options)


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {each["manager"]: each["fieldsV1"] for each in obj["metadata"].get("managedFields", [])}


def updated(live: dict[str, Any], change: Any, manager: Manager = SCALER, now: str = NOW) -> dict[str, Any]:
    new = json.loads(json.dumps(live))
    change(new)
    track(WELL_KNOWN.deployments, live, new, manager, now)
    return new


def test_create_by_apply_owns_what_was_written() -> None:
    wanted = deployment(pods({"name": "app", "image": "a:1"}, replicas=2), labels={"app": "web"})
    created = run(None, wanted)
    entry = created["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"], entry["time"]) == ("kubectl", "Apply", NOW)
    assert entry["fieldsV1"] == {
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {".": {}, "f:image": {}, "f:name": {}}}}},
        },
    }


def test_applying_the_same_again_changes_nothing_not_even_the_time() -> None:
    wanted = deployment(pods({"name": "app", "image": "a:1"}))
    live = run(None, wanted)
    assert run(live, wanted, now=LATER) == live


def test_another_managers_field_is_a_conflict() -> None:
    live = updated(run(None, deployment({"replicas": 1})), lambda new: new["spec"].update(replicas=5))
    with pytest.raises(ApplyConflict) as error:
        run(live, deployment({"replicas": 1}))
    assert error.value.message == (
        f'Apply failed with 1 conflict: conflict with "scaler" using apps/v1 at {NOW}: .spec.replicas'
    )
    assert error.value.causes[0].document() == {
        "reason": "FieldManagerConflict",
        "message": f'conflict with "scaler" using apps/v1 at {NOW}',
        "field": ".spec.replicas",
    }


def test_two_conflicts_are_listed_by_manager() -> None:
    live = run(None, deployment(pods({"name": "app", "image": "a:1"}, replicas=1)), GITOPS)
    with pytest.raises(ApplyConflict) as error:
        run(live, deployment(pods({"name": "app", "image": "a:2"}, replicas=2)))
    assert error.value.message == (
        'Apply failed with 2 conflicts: conflicts with "gitops":\n'
        '- .spec.replicas\n- .spec.template.spec.containers[name="app"].image'
    )


def test_force_takes_the_field_over() -> None:
    live = run(None, deployment({"replicas": 1, "paused": True}), GITOPS)
    taken = run(live, deployment({"replicas": 2}), force=True)
    assert taken["spec"] == {"replicas": 2, "paused": True}
    assert owners(taken) == {"gitops": {"f:spec": {"f:paused": {}}}, "kubectl": {"f:spec": {"f:replicas": {}}}}


def test_equal_values_are_shared() -> None:
    live = run(run(None, deployment({"replicas": 1}), GITOPS), deployment({"replicas": 1}))
    assert owners(live) == {"gitops": {"f:spec": {"f:replicas": {}}}, "kubectl": {"f:spec": {"f:replicas": {}}}}
    assert "replicas" in run(live, deployment())["spec"], "gitops still wants it"


def test_a_field_no_longer_applied_goes() -> None:
    live = run(None, deployment({"replicas": 1, "paused": True}, labels={"a": "1", "b": "2"}))
    later = run(live, deployment({"replicas": 1}, labels={"a": "1"}))
    assert (later["spec"], later["metadata"]["labels"]) == ({"replicas": 1}, {"a": "1"})


def test_a_list_element_no_longer_applied_goes_with_its_defaults() -> None:
    live = run(None, deployment(pods({"name": "a", "image": "x"}, {"name": "b", "image": "y"})))
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "Always"
    later = run(live, deployment(pods({"name": "a", "image": "x"})))
    assert later["spec"] == pods({"name": "a", "image": "x"})


def test_an_element_with_another_owner_stays() -> None:
    live = run(None, deployment(pods({"name": "a", "image": "x"}, {"name": "b", "image": "y"})))
    live = run(live, deployment(pods({"name": "b", "tty": True})), GITOPS)
    later = run(live, deployment(pods({"name": "a", "image": "x"})))
    assert later["spec"] == pods({"name": "a", "image": "x"}, {"name": "b", "tty": True})


def test_ports_are_keyed_by_number_and_protocol() -> None:
    wanted = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"}, "spec": wanted}
    created = apply(WELL_KNOWN.services, None, service, Manager("kubectl", "Apply", "v1"), NOW)
    created["spec"]["ports"][1]["protocol"] = "TCP"
    again = apply(WELL_KNOWN.services, created, service, Manager("kubectl", "Apply", "v1"), NOW)
    assert again["spec"]["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def test_atomic_maps_are_owned_whole() -> None:
    live = run(None, deployment({"selector": {"matchLabels": {"app": "web"}}}))
    assert owners(live)["kubectl"] == {"f:spec": {"f:selector": {}}}


def test_an_untracked_object_belongs_to_before_first_apply() -> None:
    with pytest.raises(ApplyConflict, match='conflict with "before-first-apply" using apps/v1'):
        run(deployment({"replicas": 3}), deployment({"replicas": 1}))


def test_kubectl_takes_over_from_its_own_client_side_apply() -> None:
    applied = deployment({"replicas": 1})
    annotated = deployment({"replicas": 1}, annotations={LAST_APPLIED: json.dumps(applied)})
    live = json.loads(json.dumps(annotated))
    track(WELL_KNOWN.deployments, None, live, Manager("kubectl-client-side-apply", "Update", "apps/v1"), NOW)
    assert run(live, deployment({"replicas": 2}))["spec"] == {"replicas": 2}
    with pytest.raises(ApplyConflict):
        run(live, deployment({"replicas": 2}), GITOPS)


def test_an_update_owns_what_it_changed_and_others_lose_it() -> None:
    live = run(None, deployment({"replicas": 1, "paused": True}))
    scaled = updated(live, lambda new: new["spec"].update(replicas=3), now=LATER)
    assert owners(scaled) == {"kubectl": {"f:spec": {"f:paused": {}}}, "scaler": {"f:spec": {"f:replicas": {}}}}


def test_an_update_that_removes_a_field_disowns_it() -> None:
    live = run(None, deployment({"replicas": 1, "paused": True}))
    assert owners(updated(live, lambda new: new["spec"].pop("paused"))) == {"kubectl": {"f:spec": {"f:replicas": {}}}}


def test_status_has_an_owner_of_its_own() -> None:
    live = run(None, deployment({"replicas": 1}))
    status = Manager("controller", "Update", "apps/v1", "status")
    reported = updated(live, lambda new: new.update(status={"replicas": 1}), status)
    entry = next(each for each in reported["metadata"]["managedFields"] if each["manager"] == "controller")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:replicas": {}}})


def test_a_request_may_write_and_reset_managed_fields() -> None:
    live = run(None, deployment({"replicas": 1}))
    assert owners(updated(live, lambda new: new["metadata"].update(managedFields=[{}]))) == {}
    renamed = [{**live["metadata"]["managedFields"][0], "manager": "renamed"}]
    assert list(owners(updated(live, lambda new: new["metadata"].update(managedFields=renamed)))) == ["renamed"]
    assert list(owners(updated(live, lambda new: new["metadata"].pop("managedFields")))) == ["kubectl"]


def test_old_updaters_are_merged() -> None:
    live = deployment({"replicas": 1})
    for number in range(14):
        stamp = f"2026-01-{number + 1:02}T00:00:00Z"
        manager = Manager(f"m{number}", "Update", "apps/v1")

        def label(new: dict[str, Any], key: str = f"k{number}") -> None:
            new["metadata"].setdefault("labels", {})[key] = "x"

        live = updated(live, label, manager, stamp)
    names = [each["manager"] for each in live["metadata"]["managedFields"]]
    assert len(names) == 10
    assert names[0] == "ancient-changes"


def test_custom_resources_merge_by_their_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "rules": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["id"],
                        "items": {
                            "type": "object",
                            "properties": {"id": {"type": "integer"}, "to": {"type": "string"}},
                        },
                    },
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "hosts": {"type": "array", "items": {"type": "string"}},
                },
            }
        },
    }

    def widget(spec: dict[str, Any], live: Any, manager: str) -> dict[str, Any]:
        document = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}
        return apply(WIDGETS, live, document, Manager(manager, "Apply", "example.com/v1"), NOW, schema=schema)

    live = widget({"rules": [{"id": 1, "to": "a"}], "tags": ["x"], "hosts": ["h"]}, None, "one")
    live = widget({"rules": [{"id": 2, "to": "b"}], "tags": ["y"]}, live, "two")
    assert live["spec"] == {"rules": [{"id": 1, "to": "a"}, {"id": 2, "to": "b"}], "tags": ["x", "y"], "hosts": ["h"]}
    with pytest.raises(ApplyConflict, match=r"\.spec\.hosts"):
        widget({"hosts": ["other"]}, live, "two")


def test_configurations_that_cannot_be_applied() -> None:
    with pytest.raises(ApplyError, match="managedFields must be nil"):
        run(None, deployment(managedFields=[{"manager": "x"}]))
    with pytest.raises(ApplyError, match='omits key field "name"'):
        run(None, deployment(pods({"image": "x"})))
