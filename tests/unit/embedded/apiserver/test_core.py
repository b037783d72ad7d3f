"""The server without a transport: requests in, answers out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

import applications
from mizzen.embedded.apiserver.application import Application
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.wire import ANONYMOUS, LOOPBACK, Request, Response, Stream, User, parse_query

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("cluster") / "pki")


@pytest.fixture
async def server(tmp_path: Path, pki: Pki) -> AsyncIterator[Server]:
    async with applications.opened(tmp_path, pki) as application:
        yield Server(application)


class Server:
    def __init__(self, application: Application) -> None:
        self.application = application

    async def ask(
        self, method: str, url: str, body: Any = None, user: User = LOOPBACK, **headers: str
    ) -> tuple[int, Any, Response]:
        answer = await self.application.core.handle(_request(method, url, body, user, headers))
        assert isinstance(answer, Response)
        return answer.status, msgspec.json.decode(answer.body) if answer.body else None, answer

    async def ok(self, method: str, url: str, body: Any = None, **headers: str) -> Any:
        status, document, _ = await self.ask(method, url, body, **headers)
        assert status < 300, document
        return document

    async def watch(self, url: str, count: int, **headers: str) -> list[Any]:
        answer = await self.application.core.handle(_request("GET", url, None, LOOPBACK, headers))
        assert isinstance(answer, Stream), answer
        found: list[Any] = []
        async with asyncio.timeout(3):
            async for chunk in answer.chunks:
                found += [msgspec.json.decode(line) for line in chunk.splitlines()]
                if len(found) >= count:
                    break
        return found


def _request(method: str, url: str, body: Any, user: User, headers: dict[str, str]) -> Request:
    parts = urlsplit(url)
    names = {key.replace("_", "-"): value for key, value in headers.items()}
    content = b"" if body is None else msgspec.json.encode(body)
    return Request(method, parts.path, parse_query(parts.query), names, content, user)


CONFIGS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_bodies_without_kind_get_it_from_the_path(server: Server) -> None:
    created = await server.ok("POST", CONFIGS, config("a"))
    assert (created["kind"], created["apiVersion"]) == ("ConfigMap", "v1")


async def test_a_body_of_another_kind_is_refused(server: Server) -> None:
    status, answer, _ = await server.ask("POST", CONFIGS, {"kind": "Secret", **config("a")})
    assert (status, answer["reason"]) == (400, "BadRequest")
    status, answer, _ = await server.ask("POST", CONFIGS, {"apiVersion": "v2", **config("a")})
    assert "does not match the expected API version (v1)" in answer["message"]


async def test_nobody_gets_in_without_a_name(server: Server) -> None:
    assert (await server.ask("GET", "/version", user=ANONYMOUS))[1]["minor"] == "32"
    for path in ("/healthz", "/livez", "/readyz"):
        answer = await server.application.core.handle(Request("GET", path))
        assert isinstance(answer, Response)
        assert (answer.status, answer.body) == (200, b"ok")
    for path in ("/api", "/apis", "/openapi/v3", CONFIGS, "/", "/versions"):
        assert (await server.ask("GET", path, user=ANONYMOUS))[0] == 401


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/apis/apps/v9/deployments", "/nothing", "/api/v1/pods/x", "/apis/x"]
)
async def test_paths_that_mean_nothing(server: Server, path: str) -> None:
    status, answer, _ = await server.ask("GET", path)
    assert (status, answer["message"]) == (404, "the server could not find the requested resource")


async def test_schemas_that_were_asked_for_by_their_hash_may_be_kept(server: Server) -> None:
    index = await server.ok("GET", "/openapi/v3")
    path = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    _, document, answer = await server.ask("GET", path)
    assert (
        "max-age" in answer.headers["Cache-Control"]
        and "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]
    )
    _, _, plain = await server.ask("GET", path.partition("?")[0])
    assert "Cache-Control" not in plain.headers and plain.body == answer.body
    again, _, empty = await server.ask("GET", path, **{"if-none-match": answer.headers["ETag"]})
    assert (again, empty.body) == (304, b"")


async def test_methods_that_are_not_served(server: Server) -> None:
    assert (await server.ask("PUT", CONFIGS, config("a")))[0] == 405
    assert (await server.ask("POST", f"{CONFIGS}/a", config("a")))[0] == 405


async def test_strict_validation_names_the_unknown_field(server: Server) -> None:
    body = {"spec": {"replica": 3}, "metadata": {"name": "d"}}
    status, answer, _ = await server.ask(
        "POST", "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict", body
    )
    assert status == 400
    assert 'strict decoding error: unknown field "spec.replica"' in answer["message"]


async def test_lax_validation_warns_and_drops(server: Server) -> None:
    _, created, answer = await server.ask("POST", CONFIGS, {**config("a"), "dta": {}})
    assert "dta" not in created
    assert answer.headers["Warning"] == '299 - "unknown field \\"dta\\" (did you mean \\"data\\"?)"'


async def test_dry_run_leaves_nothing(server: Server) -> None:
    await server.ok("POST", f"{CONFIGS}?dryRun=All", config("a"))
    assert (await server.ask("GET", f"{CONFIGS}/a"))[0] == 404
    await server.ok("POST", CONFIGS, config("a", x="1"))
    changed = await server.ok(
        "PATCH", f"{CONFIGS}/a?dryRun=All", {"data": {"x": "2"}}, content_type="application/merge-patch+json"
    )
    assert changed["data"] == {"x": "2"}
    await server.ok("DELETE", f"{CONFIGS}/a", {"dryRun": ["All"]})
    assert (await server.ok("GET", f"{CONFIGS}/a"))["data"] == {"x": "1"}


async def test_pages_show_one_moment(server: Server) -> None:
    for name in "abcd":
        await server.ok("POST", CONFIGS, config(name))
    first = await server.ok("GET", f"{CONFIGS}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 2
    await server.ok("DELETE", f"{CONFIGS}/c")
    await server.ok("POST", CONFIGS, config("e"))
    second = await server.ok("GET", f"{CONFIGS}?limit=2&continue={first['metadata']['continue']}")
    assert [each["metadata"]["name"] for each in first["items"] + second["items"]] == ["a", "b", "c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


async def test_a_forged_continue_token_is_refused(server: Server) -> None:
    assert (await server.ask("GET", f"{CONFIGS}?continue=nonsense"))[0] == 400


async def test_a_watch_from_a_forgotten_revision_is_gone(tmp_path: Path, pki: Pki) -> None:
    async with applications.opened(tmp_path, pki) as application:
        server = Server(application)
        application.store.history.max_events = 3
        await server.ok("POST", CONFIGS, config("a"))
        status, answer, _ = await server.ask("GET", f"{CONFIGS}?watch=true&resourceVersion=2")
        assert (status, answer["reason"]) == (410, "Expired")
        assert answer["message"].startswith("too old resource version: 2 (")


async def test_watches_begin_with_what_there_is(server: Server) -> None:
    await server.ok("POST", CONFIGS, config("a"))
    events = await server.watch(f"{CONFIGS}?watch=True", 1)
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [("ADDED", "a")]


async def test_initial_events_end_with_a_bookmark(server: Server) -> None:
    await server.ok("POST", CONFIGS, config("a"))
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    events = await server.watch(f"{CONFIGS}?{query}", 2)
    assert [each["type"] for each in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_in_time_with_a_bookmark(server: Server) -> None:
    events = await server.watch(f"{CONFIGS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1", 9)
    assert [each["type"] for each in events] == ["BOOKMARK"]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) == server.application.store.revision


async def test_tables(server: Server) -> None:
    await server.ok("POST", PODS, pod("p"))
    table = await server.ok("GET", PODS, accept=TABLE)
    names = [each["name"] for each in table["columnDefinitions"] if each["priority"] == 0]
    assert names == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert table["rows"][0]["cells"][:4] == ["p", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    events = await server.watch(f"{PODS}?watch=1", 1, accept=TABLE)
    assert events[0]["object"]["kind"] == "Table"


async def test_aggregated_discovery_echoes_its_type(server: Server) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    _, document, answer = await server.ask("GET", "/apis", accept=accept)
    assert answer.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    apps = next(each for each in document["items"] if each["metadata"]["name"] == "apps")
    resources = {each["resource"]: each for each in apps["versions"][0]["resources"]}
    assert resources["deployments"]["shortNames"] == ["deploy"]
    assert {each["subresource"] for each in resources["deployments"]["subresources"]} == {"scale", "status"}


async def test_pods_wait_for_their_node(server: Server) -> None:
    await server.ok("POST", PODS, pod("p"))
    deleted = await server.ok("DELETE", f"{PODS}/p")
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 30
    sooner = await server.ok("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 1})
    assert sooner["metadata"]["deletionGracePeriodSeconds"] == 1
    await server.ok("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert (await server.ask("GET", f"{PODS}/p"))[0] == 404


async def test_propagation_becomes_finalizers(server: Server) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        await server.ok("POST", CONFIGS, config(policy.lower()))
        held = await server.ok("DELETE", f"{CONFIGS}/{policy.lower()}", {"propagationPolicy": policy})
        assert held["metadata"]["finalizers"] == [finalizer]
    await server.ok("POST", CONFIGS, config("a"))
    gone = await server.ok("DELETE", f"{CONFIGS}/a", {"propagationPolicy": "Background"})
    assert (gone["status"], gone["details"]["name"]) == ("Success", "a")


async def test_namespaces_must_exist_and_not_be_ending(server: Server) -> None:
    elsewhere = "/api/v1/namespaces/x/configmaps"
    status, answer, _ = await server.ask("POST", elsewhere, config("a"))
    assert (status, answer["message"]) == (404, 'namespaces "x" not found')
    await server.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}})
    ending = await server.ok("DELETE", "/api/v1/namespaces/x")
    assert ending["status"]["phase"] == "Terminating"
    status, answer, _ = await server.ask("POST", elsewhere, config("a"))
    assert (status, answer["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
    await server.ok("PUT", "/api/v1/namespaces/x/finalize", {"metadata": {"name": "x"}, "spec": {}})
    assert (await server.ask("GET", "/api/v1/namespaces/x"))[0] == 404
    assert (await server.ask("DELETE", "/api/v1/namespaces/default"))[0] == 403


async def test_pods_get_account_token_and_node(server: Server) -> None:
    created = await server.ok("POST", PODS, pod("p"))
    spec = created["spec"]
    assert (spec["serviceAccountName"], spec["nodeName"]) == ("default", "mizzen")
    volume = spec["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    mount = {"name": volume["name"], "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    assert spec["containers"][0]["volumeMounts"] == [mount]
    quiet = await server.ok("POST", PODS, pod("q", automountServiceAccountToken=False))
    assert "volumes" not in quiet["spec"]
    status, answer, _ = await server.ask("POST", PODS, pod("r", serviceAccountName="who"))
    assert (status, 'serviceaccount "who" not found' in answer["message"]) == (403, True)


async def test_services_get_addresses_and_ports(server: Server) -> None:
    services = "/api/v1/namespaces/default/services"
    spec = {"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30081}]}
    created = await server.ok("POST", services, {"metadata": {"name": "s"}, "spec": spec})
    assert created["spec"]["clusterIP"].startswith("10.96.")
    ports = [each["nodePort"] for each in created["spec"]["ports"]]
    assert 30000 <= ports[0] <= 32767
    assert ports[1] == 30081
    status, answer, _ = await server.ask("POST", services, {"metadata": {"name": "t"}, "spec": spec})
    assert (status, "provided port is already allocated" in answer["message"]) == (422, True)
    await server.ok("DELETE", f"{services}/s")
    await server.ok("POST", services, {"metadata": {"name": "t"}, "spec": spec})
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
    assert (await server.ok("POST", services, headless))["spec"]["clusterIPs"] == ["None"]


async def test_tokens_are_for_their_audience_and_their_pod(server: Server) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await server.ok("POST", accounts, {"metadata": {"name": "sa"}})
    uid = (await server.ok("POST", PODS, pod("p", serviceAccountName="sa")))["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
    wanted = {"spec": {"audiences": ["istio-ca"], "boundObjectRef": bound, "expirationSeconds": 600}}
    token = (await server.ok("POST", f"{accounts}/sa/token", wanted))["status"]["token"]

    async def review(audiences: list[str]) -> Any:
        body = {"spec": {"token": token, "audiences": audiences}}
        return (await server.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body))["status"]

    good = await review(["istio-ca", "other"])
    assert (good["authenticated"], good["audiences"]) == (True, ["istio-ca"])
    assert good["user"]["username"] == "system:serviceaccount:default:sa"
    assert good["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [uid]
    assert "authenticated" not in await review(["other"])
    await server.ok("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert "authenticated" not in await review(["istio-ca"])


async def test_scale(server: Server) -> None:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    await server.ok("POST", deployments, {"metadata": {"name": "d"}, "spec": spec})
    patch = {"spec": {"replicas": 4}}
    scaled = await server.ok("PATCH", f"{deployments}/d/scale", patch, content_type="application/merge-patch+json")
    assert (scaled["kind"], scaled["spec"], scaled["status"]["selector"]) == ("Scale", {"replicas": 4}, "app=x")
    assert (await server.ok("GET", f"{deployments}/d"))["spec"]["replicas"] == 4


async def test_events_have_two_faces(server: Server) -> None:
    event = {"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p"}, "note": "hi", "reason": "R"}
    event |= {"eventTime": "2026-01-01T00:00:00.000000Z", "action": "A", "type": "Normal"}
    new = "/apis/events.k8s.io/v1/namespaces/default/events"
    assert (await server.ok("POST", new, event))["note"] == "hi"
    found = await server.ok("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p")
    assert [each["message"] for each in found["items"]] == ["hi"]
    assert (await server.ok("GET", f"{new}/e"))["regarding"]["name"] == "p"


async def test_unknown_field_selectors_are_refused(server: Server) -> None:
    status, answer, _ = await server.ask("GET", f"{PODS}?fieldSelector=spec.foo=1")
    assert (status, answer["message"]) == (400, "field label not supported: spec.foo")


async def test_deletecollection_honours_selectors(server: Server) -> None:
    for name, app in (("a", "x"), ("b", "y")):
        await server.ok("POST", CONFIGS, {"metadata": {"name": name, "labels": {"app": app}}})
    await server.ok("DELETE", f"{CONFIGS}?labelSelector=app=x")
    assert (await server.ask("GET", f"{CONFIGS}/a"))[0] == 404
    assert (await server.ask("GET", f"{CONFIGS}/b"))[0] == 200
