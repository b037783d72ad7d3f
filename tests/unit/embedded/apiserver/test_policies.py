"""ValidatingAdmissionPolicies, after what Kubernetes' documentation says of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import applications
from mizzen.embedded.apiserver import cel_source
from mizzen.embedded.apiserver.application import Application
from mizzen.embedded.apiserver.operation import Call
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON, WELL_KNOWN, ApiError, Resource, WriteOptions

GROUP = "admissionregistration.k8s.io"
POLICY = Resource(GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)
BINDING = Resource(
    GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False
)
CONFIGS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("cluster") / "pki")


class Cluster:
    def __init__(self, application: Application) -> None:
        self.application, self.api = application, application.api

    async def policy(self, *validations: JSON, rules: list[JSON] | None = None, **spec: Any) -> JSON:
        constraints = {"resourceRules": rules or [CONFIGS], **spec.pop("constraints", {})}
        spec = {"matchConstraints": constraints, "validations": list(validations), **spec}
        return await self.api.create(POLICY, {"metadata": {"name": "p"}, "spec": spec})

    async def bind(self, *actions: str, **spec: Any) -> None:
        spec = {"policyName": "p", "validationActions": list(actions or ("Deny",)), **spec}
        await self.api.create(BINDING, {"metadata": {"name": "b"}, "spec": spec})

    async def write(self, user: str = "system:apiserver", **data: str) -> list[str]:
        """Create a ConfigMap; the warnings. Raises what denies it."""
        kind = self.application.core.registry.find("", "v1", "configmaps")
        assert kind is not None
        call = Call(User(user, ("system:authenticated",)))
        obj = {"metadata": {"generateName": "c-", "labels": {"a": "b"}}, "data": data}
        await self.application.core.objects.create(Target(kind, "default"), obj, call)
        return call.warnings

    async def refused(self, **data: str) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.write(**data)
        return caught.value


@pytest.fixture
async def cluster(tmp_path: Path, pki: Pki) -> AsyncIterator[Cluster]:
    async with applications.opened(tmp_path, pki) as application:
        yield Cluster(application)


async def test_a_policy_denies_once_it_is_bound(cluster: Cluster) -> None:
    await cluster.policy({"expression": "object.data.size == 'small'"})
    await cluster.write(size="large")
    await cluster.bind()
    await cluster.write(size="small")
    error = await cluster.refused(size="large")
    told = (
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.data.size == 'small'"
    )
    assert (error.code, error.status["reason"]) == (422, "Invalid")
    assert error.status["message"].endswith(f"is forbidden: {told}")
    assert error.status["details"]["causes"][0]["message"] == told


async def test_words_and_reason_are_the_policys(cluster: Cluster) -> None:
    await cluster.policy(
        {
            "expression": "variables.size.isLessThan(quantity('1Gi'))",
            "messageExpression": "'%s is too much in %s'.format([object.data.size, request.namespace])",
            "reason": "Forbidden",
        },
        variables=[{"name": "size", "expression": "quantity(object.data.size)"}],
    )
    await cluster.bind()
    await cluster.write(size="900Mi")
    error = await cluster.refused(size="2Gi")
    assert (error.code, error.status["reason"]) == (403, "Forbidden")
    assert error.status["message"].endswith("denied request: 2Gi is too much in default")


async def test_warn_and_audit_let_pass(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    await cluster.policy(
        {"expression": "false", "message": "not so"},
        auditAnnotations=[{"key": "size", "valueExpression": "'size ' + object.data.size"}],
    )
    await cluster.bind("Warn", "Audit")
    caplog.set_level("INFO")
    assert await cluster.write(size="1") == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': not so"
    ]
    assert (
        "audit: size: size 1" in caplog.text and "ValidatingAdmissionPolicy 'p' with binding 'b': not so" in caplog.text
    )


async def test_errors_deny_unless_the_policy_ignores_them(cluster: Cluster) -> None:
    made = await cluster.policy({"expression": "object.data.size == 'small'"})
    await cluster.bind()
    error = await cluster.refused(other="1")
    assert "expression 'object.data.size == 'small'' resulted in error: no such key: size" in error.status["message"]
    await cluster.api.patch(POLICY, made["metadata"]["name"], {"spec": {"failurePolicy": "Ignore"}})
    await cluster.write(other="1")


async def test_who_is_concerned(cluster: Cluster) -> None:
    await cluster.policy(
        {"expression": "false"},
        constraints={"objectSelector": {"matchLabels": {"a": "b"}}},
        matchConditions=[{"name": "not-me", "expression": "request.userInfo.username != 'me'"}],
    )
    await cluster.bind(
        matchResources={"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}
    )
    await cluster.refused()
    await cluster.write(user="me")
    await cluster.api.create(WELL_KNOWN.configmaps, {"metadata": {"name": "unlabelled"}}, "default")
    await cluster.api.create(WELL_KNOWN.configmaps, {"metadata": {"name": "c", "labels": {"a": "b"}}}, "kube-system")


async def test_params(cluster: Cluster) -> None:
    await cluster.api.create(WELL_KNOWN.configmaps, {"metadata": {"name": "limits"}, "data": {"max": "3"}}, "default")
    await cluster.policy(
        {"expression": "!has(object.data.n) || int(object.data.n) <= int(params.data.max)"},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    await cluster.bind(paramRef={"name": "limits", "parameterNotFoundAction": "Deny"})
    await cluster.write(n="3")
    await cluster.refused(n="4")
    await cluster.api.delete(WELL_KNOWN.configmaps, "limits", "default")
    error = await cluster.refused(n="1")
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in error.status["message"]
    await cluster.api.patch(BINDING, "b", {"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}})
    await cluster.write(n="4")


async def test_old_objects_are_seen_and_deletions_too(cluster: Cluster) -> None:
    rule = {**CONFIGS, "operations": ["UPDATE", "DELETE"]}
    await cluster.policy(
        {"expression": "request.operation != 'DELETE' && object.data.n >= oldObject.data.n"}, rules=[rule]
    )
    await cluster.bind()
    config = {"metadata": {"name": "c"}, "data": {"n": "2"}}
    await cluster.api.create(WELL_KNOWN.configmaps, config, "default")
    await cluster.api.patch(WELL_KNOWN.configmaps, "c", {"data": {"n": "3"}}, "default")
    for attempt in (
        cluster.api.patch(
            WELL_KNOWN.configmaps, "c", {"data": {"n": "1"}}, "default", options=WriteOptions(dry_run=True)
        ),
        cluster.api.delete(WELL_KNOWN.configmaps, "c", "default"),
    ):
        with pytest.raises(ApiError, match="denied request"):
            await attempt


async def test_the_authorizer_is_asked(cluster: Cluster) -> None:
    check = "authorizer.group('').resource('secrets').namespace(object.metadata.namespace).check('create').allowed()"
    await cluster.policy({"expression": check})
    await cluster.bind()
    with pytest.raises(ApiError, match="denied request"):
        await cluster.write(user="reader")
    await cluster.api.create(WELL_KNOWN.configmaps, {"metadata": {"name": "by-the-administrator"}}, "default")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"validations": [{"expression": "object.x ="}]}, "spec.validations[0].expression: Invalid value"),
        ({"validations": [{"expression": "params.x"}]}, "undeclared reference to 'params'"),
        ({"validations": [{"expression": "nonesuch(object)"}]}, "this server has no function nonesuch()"),
        ({"validations": []}, "validations or auditAnnotations must contain at least one item"),
        ({"matchConstraints": None}, "spec.matchConstraints: Required value"),
        ({"variables": [{"name": "a-b", "expression": "1"}]}, "not a valid CEL identifier"),
        ({"matchConditions": [{"name": "c", "expression": "variables.x"}]}, "undeclared reference to 'variables'"),
        ({"validations": [{"expression": "true", "reason": "Because"}]}, "Unsupported value"),
    ],
)
async def test_what_is_no_policy(cluster: Cluster, spec: JSON, told: str) -> None:
    with pytest.raises(ApiError) as caught:
        await cluster.policy(*spec.pop("validations", [{"expression": "true"}]), **spec)
    assert told in caught.value.status["message"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"validationActions": []}, "at least one validation action is required"),
        ({"validationActions": ["Deny", "Warn"]}, "must not contain both Deny and Warn"),
        ({"paramRef": {"parameterNotFoundAction": "Deny"}}, "one of name or selector must be specified"),
        ({"paramRef": {"name": "x"}}, "spec.paramRef.parameterNotFoundAction: Required value"),
    ],
)
async def test_what_is_no_binding(cluster: Cluster, spec: JSON, told: str) -> None:
    with pytest.raises(ApiError) as caught:
        await cluster.bind(**spec)
    assert told in caught.value.status["message"]


async def test_the_status_tells_of_fields_that_no_kind_has(cluster: Cluster) -> None:
    deployments = {**CONFIGS, "apiGroups": ["apps"], "resources": ["deployments"]}
    await cluster.policy(
        {"expression": "object.spec.replica < 5"}, {"expression": "object.spec.replicas < 5"}, rules=[deployments]
    )
    async with asyncio.timeout(5):
        async for event in cluster.api.watch(POLICY):
            if status := event.object.get("status"):
                break
    assert status["observedGeneration"] == 1
    (warning,) = status["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression"
    assert "apps/v1, Kind=Deployment: ERROR: undefined field 'replica'" in warning["warning"]


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("object.?a.b.orValue(1) == 1", 'optionalAt(optionalAt(object, "a"), "b").orValue(1) == 1'),
        ("a.all(x, x.?y['.?'].hasValue())", "a.all(x , optionalAt(optionalAt(x, \"y\"), '.?').hasValue())"),
        ("a[?'b'].orValue('') != \"\"", "optionalAt(a, 'b').orValue('') != \"\""),
        ("a.b == 'x.?y'", "a.b == 'x.?y'"),
    ],
)
def test_optional_syntax_is_written_in_calls(source: str, plain: str) -> None:
    assert cel_source.plain(source) == plain
