"""However wrong a request's body is, the API server answers with a Status and not with a fault."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mizzen.embedded.apiserver import bodies, schema
from mizzen.embedded.apiserver.application import Application, open_application
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.resources import BUILT_INS, ResourceType
from mizzen.embedded.apiserver.wire import LOOPBACK, Request, Response

ODD: list[Any] = [
    None,
    0,
    -1,
    1.5,
    "",
    "x",
    "a/b",
    True,
    [],
    {},
    [None],
    {"a": None},
    [{}],
    10**30,
    "2026-13-45T00:00:00Z",
]
POD_SPEC = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}]}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": POD_SPEC}
HOOK = {
    "name": "a.b.c",
    "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": [{"apiGroups": ["none"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}],
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
STRUCTURE = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
CRD_VERSION = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": STRUCTURE}}
CRD_SPEC = {
    "group": "x.io",
    "scope": "Namespaced",
    "names": {"plural": "things", "kind": "Thing"},
    "versions": [CRD_VERSION],
}
GIVEN: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/default/pods": {"spec": POD_SPEC},
    "/api/v1/namespaces/default/services": {"spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}},
    "/api/v1/namespaces/default/secrets": {"stringData": {"a": "b"}},
    "/api/v1/namespaces/default/configmaps": {"data": {"a": "b"}},
    "/api/v1/nodes": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
    "/apis/apps/v1/namespaces/default/deployments": {
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE}
    },
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["1.2.3.4"]}],
        "ports": [{"port": 1}],
    },
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations": {"webhooks": [HOOK]},
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {"spec": CRD_SPEC},
    "/apis/x.io/v1/namespaces/default/things": {"spec": {"n": 1}},
    "/apis/authentication.k8s.io/v1/tokenreviews": {"spec": {"token": "a.b.c", "audiences": ["x"]}},
}
PATCHES = ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml", "json-patch+json")
SUBRESOURCES = ("", "", "", "/status", "/scale", "/token", "/eviction", "/binding", "/ephemeralcontainers")
STRANGE_METADATA = ("finalizers", "labels", "annotations", "uid", "ownerReferences", "managedFields", "resourceVersion")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def spoiled(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        *parents, last = chance.choice(list(places(document)) or [("spec",)])
        parent: Any = document
        for key in parents:
            parent = parent[key]
        if chance.random() < 0.2 and last in parent if isinstance(parent, dict) else False:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(chance.choice(ODD))
    return document


def request(chance: random.Random) -> Request:
    path, given = chance.choice(list(GIVEN.items()))
    name = "things.x.io" if "customresource" in path else "x"
    body: Any = spoiled({"metadata": {"name": name}, **given}, chance)
    if chance.random() < 0.2 and isinstance(body.get("metadata"), dict):
        body["metadata"][chance.choice(STRANGE_METADATA)] = copy.deepcopy(chance.choice(ODD))
    method = chance.choice(("POST", "POST", "PUT", "PATCH", "PATCH", "GET", "DELETE"))
    content_type = "application/json"
    if method == "PATCH":
        content_type = f"application/{chance.choice(PATCHES)}"
    if content_type.endswith("json-patch+json"):
        pointer = "/" + "/".join(map(str, chance.choice(list(places(given)))))
        body = [
            {"op": chance.choice(("add", "remove", "replace", "test")), "path": pointer, "value": chance.choice(ODD)}
        ]
    if method != "POST":
        path += f"/{name}{chance.choice(SUBRESOURCES)}"
    query = [("fieldManager", "f"), *([("dryRun", "All")] if chance.random() < 0.2 else [])]
    accept = chance.choice(("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"))
    content = b"" if method == "GET" else msgspec.json.encode(body)
    return Request(method, path, query, {"content-type": content_type, "accept": accept}, content, LOOPBACK)


async def answered(application: Application, asked: Request) -> int:
    answer = await application.core.handle(asked)
    assert isinstance(answer, Response)
    assert answer.status < 500, (asked, answer.body)
    if answer.status >= 400:
        assert msgspec.json.decode(answer.body)["kind"] == "Status"
    return answer.status


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_body_makes_a_fault(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    application = await open_application(tmp_path, ensure_pki(tmp_path / "pki"))
    seen = {await answered(application, request(chance)) for _ in range(700)}
    await application.close()
    assert {200, 201, 400, 404, 409, 422} <= seen, "the requests reach every kind of answer"


def kind_at(path: str) -> ResourceType:
    return next(each for each in BUILT_INS if each.resource.path("default") == path)


BUILT_IN = {path: given for path, given in GIVEN.items() if "x.io" not in path}


@pytest.mark.parametrize("path", BUILT_IN)
def test_what_fits_needs_no_second_look(path: str) -> None:
    """One walk says yes only where the walks that find words for what is wrong find nothing, and leave it as it is."""
    chance, kind = random.Random(path), kind_at(path)
    whole = {"metadata": {"name": "x", "labels": {"a": "b"}}, **BUILT_IN[path]}
    assert schema.fits(kind.resource, whole)
    verdicts = set()
    for _ in range(300):
        given = spoiled(whole, chance)
        before = copy.deepcopy(given)
        verdicts.add(schema.fits(kind.resource, given))
        if schema.fits(kind.resource, given):
            assert schema.decoding_error(kind.resource, given) is None
            assert schema.unknown_fields(kind.resource, given) == []
            assert bodies.checked(kind.resource, given) == given == before
    assert verdicts == {True, False}
