"""Admission webhooks: who is asked, what is believed, and the words of a refusal."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import applications
from mizzen.embedded.apiserver.application import Application
from mizzen.embedded.apiserver.http_server import tls_context
from mizzen.embedded.apiserver.operation import Call, Operation
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.embedded.apiserver.webhooks import VALIDATING, WebhookChain
from mizzen.kube.api import WELL_KNOWN, ApiError, Resource, WriteOptions

CONFIG = WELL_KNOWN.configmaps
Judge = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("cluster") / "pki", ["hook.default.svc"])


class Hooks:
    """Webhooks by path, behind TLS that is good for hook.default.svc."""

    def __init__(self, application: Application, pki: Pki) -> None:
        self.application, self.api, self._pki = application, application.api, pki
        self.judges: dict[str, Judge] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        review = await request.json()
        self.asked.append((request.path, review["request"]))
        response = {"uid": review["request"]["uid"], "allowed": True, **self.judges[request.path](review["request"])}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    async def declare_service(self, port: int) -> None:
        spec = {"ports": [{"name": "https", "port": 443, "targetPort": port}]}
        await self.api.create(WELL_KNOWN.services, {"metadata": {"name": "hook"}, "spec": spec}, "default")
        found = {
            "metadata": {"name": "hook-x", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["127.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
            ],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        await self.api.create(WELL_KNOWN.endpointslices, found, "default")

    def hook(self, path: str, judge: Judge, **rest: Any) -> dict[str, Any]:
        self.judges[path] = judge
        service = {"namespace": "default", "name": "hook", "path": path}
        bundle = base64.b64encode(self._pki.ca.read_bytes()).decode()
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
        return {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": {"service": service, "caBundle": bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **rest,
        }

    async def install(self, resource: Resource, *hooks: dict[str, Any]) -> None:
        await self.api.create(resource, {"metadata": {"name": "config"}, "webhooks": list(hooks)})

    async def create(self, labels: dict[str, str] | None = None, dry_run: bool = False) -> dict[str, Any]:
        obj = {"metadata": {"generateName": "c-", "labels": labels or {}}, "data": {"x": "1"}}
        return await self.api.create(CONFIG, obj, "default", WriteOptions(dry_run=dry_run))


@pytest.fixture
async def hooks(tmp_path: Path, pki: Pki) -> AsyncIterator[Hooks]:
    async with applications.opened(tmp_path, pki) as application:
        found = Hooks(application, pki)
        runner = web.ServerRunner(web.Server(found.answer))
        await runner.setup()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listener, ssl_context=tls_context(pki)).start()
        await found.declare_service(listener.getsockname()[1])
        yield found
    await runner.cleanup()


def patching(*operations: dict[str, Any]) -> Judge:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"patch": patch, "patchType": "JSONPatch"}


def allow(_: dict[str, Any]) -> dict[str, Any]:
    return {}


async def test_a_mutating_webhook_changes_what_is_stored(hooks: Hooks) -> None:
    judge = patching({"op": "add", "path": "/data/y", "value": "2"})
    await hooks.install(WELL_KNOWN.mutating_webhooks, hooks.hook("/mutate", judge))
    created = await hooks.create()
    assert created["data"] == {"x": "1", "y": "2"}
    assert (await hooks.api.get(CONFIG, created["metadata"]["name"], "default"))["data"] == {"x": "1", "y": "2"}
    asked = hooks.asked[0][1]
    assert (asked["operation"], asked["namespace"], asked["kind"]["kind"]) == ("CREATE", "default", "ConfigMap")


async def test_a_denial_speaks_kubernetes_words(hooks: Hooks) -> None:
    def deny(_: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, "status": {"message": "no x here", "code": 403}}

    await hooks.install(WELL_KNOWN.validating_webhooks, hooks.hook("/deny", deny))
    with pytest.raises(ApiError) as refused:
        await hooks.create()
    assert refused.value.message == 'admission webhook "deny.example.com" denied the request: no x here'
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")


async def test_selectors_decide_who_is_asked(hooks: Hooks) -> None:
    wanted = hooks.hook("/labelled", allow, objectSelector={"matchLabels": {"ask": "yes"}})
    elsewhere = hooks.hook("/elsewhere", allow, namespaceSelector={"matchLabels": {"injection": "enabled"}})
    await hooks.install(WELL_KNOWN.validating_webhooks, wanted, elsewhere)
    await hooks.create()
    assert hooks.asked == []
    await hooks.create({"ask": "yes"})
    assert [path for path, _ in hooks.asked] == ["/labelled"]
    namespaces = WELL_KNOWN.namespaces
    await hooks.api.patch(namespaces, "default", {"metadata": {"labels": {"injection": "enabled"}}})
    await hooks.create()
    assert [path for path, _ in hooks.asked] == ["/labelled", "/elsewhere"]


async def test_a_broken_webhook_fails_the_request_unless_told_otherwise(hooks: Hooks) -> None:
    lost = hooks.hook("/lost", allow)
    lost["clientConfig"]["service"]["name"] = "nowhere"
    await hooks.install(WELL_KNOWN.validating_webhooks, lost)
    with pytest.raises(ApiError) as refused:
        await hooks.create()
    assert refused.value.code == 500
    words = 'Internal error occurred: failed calling webhook "lost.example.com": failed to call webhook: '
    assert refused.value.message.startswith(words)
    patch = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    await hooks.api.patch(WELL_KNOWN.validating_webhooks, "config", patch, type="json")
    await hooks.create()


async def test_an_untrusted_certificate_is_refused(hooks: Hooks, tmp_path: Path) -> None:
    stranger = ensure_pki(tmp_path / "stranger")
    hook = hooks.hook("/mutate", allow)
    hook["clientConfig"]["caBundle"] = base64.b64encode(stranger.ca.read_bytes()).decode()
    await hooks.install(WELL_KNOWN.validating_webhooks, hook)
    with pytest.raises(ApiError, match="failed to verify certificate"):
        await hooks.create()
    assert hooks.asked == []


async def test_a_webhook_is_asked_again_after_later_changes(hooks: Hooks) -> None:
    first = hooks.hook("/first", allow, reinvocationPolicy="IfNeeded")
    second = hooks.hook("/second", patching({"op": "add", "path": "/data/y", "value": "2"}))
    await hooks.install(WELL_KNOWN.mutating_webhooks, first, second)
    await hooks.create()
    assert [path for path, _ in hooks.asked] == ["/first", "/second", "/first"]
    assert hooks.asked[2][1]["object"]["data"] == {"x": "1", "y": "2"}


async def test_dry_runs_ask_only_webhooks_without_side_effects(hooks: Hooks) -> None:
    review = {"metadata": {"name": "c", "namespace": "default"}}
    kind = hooks.application.core.registry.find("", "v1", "configmaps")
    assert kind is not None
    operation = Operation("CREATE", kind, "default", "c", review, None, Call(dry_run=True))
    chain = WebhookChain(hooks.application.store, hooks.application.calls.post, lambda hook, operation: True)
    loud = hooks.hook("/loud", allow, sideEffects="Some")
    await hooks.application.store.put(Key(VALIDATING, "", "old"), {"metadata": {}, "webhooks": [loud]}, None)
    with pytest.raises(ApiError, match="does not support dry run"):
        await chain.validate(operation)


async def test_the_token_is_mounted_into_containers_that_a_webhook_adds(hooks: Hooks) -> None:
    sidecar = {"op": "add", "path": "/spec/containers/-", "value": {"name": "proxy", "image": "p"}}
    hook = hooks.hook("/inject", patching(sidecar))
    hook["rules"][0]["resources"] = ["pods"]
    await hooks.install(WELL_KNOWN.mutating_webhooks, hook)
    spec = {"containers": [{"name": "c", "image": "i"}]}
    pod = await hooks.api.create(WELL_KNOWN.pods, {"metadata": {"name": "p"}, "spec": spec}, "default")
    mounts = [[mount["name"] for mount in each["volumeMounts"]] for each in pod["spec"]["containers"]]
    assert len(mounts) == 2
    assert mounts[0] == mounts[1]
    assert pod["spec"]["containers"][1]["imagePullPolicy"] == "Always"
