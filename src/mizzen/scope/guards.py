"""What guards a workload: which AuthorizationPolicies and RequestAuthentications apply to it, and whom they ask.

https://istio.io/latest/docs/concepts/security/#authorization
Policies of the root namespace and of the workload's own add up; a selector narrows them. One with targets is for the
gateways of its own namespace that have a target's name as a label, and for nobody else.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, TypeVar

from mizzen.api.authorization import AuthorizationPolicy, JWTRule, RequestAuthentication
from mizzen.api.base import Problem
from mizzen.api.core import Pod
from mizzen.api.legality.authorization import authorization_policy
from mizzen.api.legality.request_authentication import key_set
from mizzen.api.mesh import MeshConfig
from mizzen.scope.model import Authorizer, Guards
from mizzen.scope.problems import problem
from mizzen.scope.services import Catalog, catalog
from mizzen.scope.snapshot import KeySet, Snapshot, Table, by_namespace

UNTRANSLATABLE, NO_PROVIDER, NO_KEYS, NO_TARGET = "MZ0110", "MZ0111", "MZ0112", "MZ0113"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label of a gateway's Pods: the name of the Gateway that they are."""
_KINDS: Mapping[str, Literal["http", "grpc"]] = {"envoyExtAuthzHttp": "http", "envoyExtAuthzGrpc": "grpc"}
Labels = frozenset[tuple[str, str]]
P = TypeVar("P", AuthorizationPolicy, RequestAuthentication)


def guards(snapshot: Snapshot, namespace: str, labels: Labels) -> Guards:
    """The same object as before when nothing it depends on changed."""
    memo, mesh = snapshot.memo, snapshot.mesh
    policies = _applying(snapshot, AuthorizationPolicy, namespace, labels)
    authentications = _applying(snapshot, RequestAuthentication, namespace, labels)
    keys = tuple(_fetched(snapshot, authentications))
    return memo(_guards, policies, authentications, keys, catalog(snapshot) if _asks(policies) else None, mesh)


def _applying(snapshot: Snapshot, kind: type[P], namespace: str, labels: Labels) -> tuple[P, ...]:
    """Those of the root namespace first, then of the workload's own; oldest first."""
    tables = snapshot.table(kind).grouped(by_selection)
    spaces = dict.fromkeys((snapshot.mesh.root_namespace, namespace))
    return tuple(one for space in spaces for one in _selecting(tables, space, namespace, labels))


def by_selection(policy: AuthorizationPolicy | RequestAuthentication) -> Iterable[Hashable]:
    """Its namespace, and one of the labels that it asks for (None: any workload will do): so that a workload meets
    few policies that are not for it. Of targets that cannot be honoured: nothing."""
    space = policy.metadata.namespace
    if policy.targets:
        return {(space, (GATEWAY_NAME, name)) for name in _gateways(policy)}
    asked = policy.spec.selector.match_labels if policy.spec.selector else {}
    return ((space, min(asked.items(), default=None)),)


def _selecting(tables: Mapping[Hashable, tuple[P, ...]], space: str, namespace: str, labels: Labels) -> list[P]:
    met = chain.from_iterable(tables.get((space, label), ()) for label in (None, *labels))
    return sorted((one for one in met if _selects(one, namespace, labels)), key=lambda one: one.age_key)


def _selects(policy: AuthorizationPolicy | RequestAuthentication, namespace: str, labels: Labels) -> bool:
    if policy.targets:
        return policy.namespace == namespace
    return policy.spec.selector is None or policy.spec.selector.match_labels.items() <= labels


def _gateways(policy: AuthorizationPolicy | RequestAuthentication) -> list[str]:
    return [target.name for target in policy.targets if target.is_gateway]


def _asks(policies: Iterable[AuthorizationPolicy]) -> bool:
    return any(policy.spec.action == "CUSTOM" for policy in policies)


def key_source(rule: JWTRule) -> str | None:
    """The URL that leads to the keys; None when they are in the rule, or nothing says where they are."""
    if rule.jwks is not None:
        return None
    return rule.jwks_uri or (f"{rule.issuer.rstrip('/')}/.well-known/openid-configuration" if rule.issuer else None)


def key_sources(table: Table[RequestAuthentication]) -> dict[str, float]:
    """All URLs that keys are to be got from, and the seconds that may take."""
    found: dict[str, float] = {}
    for policy in table:
        for rule in policy.spec.jwt_rules:
            if url := key_source(rule):
                found[url] = max(found.get(url, 0.0), rule.timeout.total_seconds() if rule.timeout else 5.0)
    return found


def _fetched(snapshot: Snapshot, policies: Iterable[RequestAuthentication]) -> Iterator[KeySet]:
    for url in dict.fromkeys(key_source(rule) for policy in policies for rule in policy.spec.jwt_rules):
        if url and (found := snapshot.get(KeySet, "", url)):
            yield found


def _guards(
    policies: tuple[AuthorizationPolicy, ...],
    authentications: tuple[RequestAuthentication, ...],
    keys: tuple[KeySet, ...],
    services: Catalog | None,
    mesh: MeshConfig,
) -> Guards:
    custom = [policy for policy in policies if policy.spec.action == "CUSTOM"]
    authorizer, problems = _authorizer(custom, services, mesh)
    return Guards(
        policies=policies,
        authentications=authentications,
        keys=tuple((one.name, one.keys) for one in keys),
        authorizer=authorizer,
        trust_domains=tuple(dict.fromkeys((mesh.trust_domain, *mesh.trust_domain_aliases))),
        problems=tuple(problems),
    )


def _authorizer(
    custom: list[AuthorizationPolicy], services: Catalog | None, mesh: MeshConfig
) -> tuple[Authorizer | None, list[Problem]]:
    """The one that all CUSTOM policies of a workload ask. None: they deny whatever they match."""
    names = {policy.spec.provider.name if policy.spec.provider else "" for policy in custom}
    if not custom or services is None:
        return None, []
    if len(names) > 1:
        shown = ", ".join(sorted(names))
        return None, [_refusing(policy, f"a workload can ask one provider, and here meet {shown}") for policy in custom]
    found = _provider(names.pop(), services, mesh)
    if isinstance(found, str):
        return None, [_refusing(policy, found) for policy in custom]
    return found, []


def _refusing(policy: AuthorizationPolicy, reason: str) -> Problem:
    message = f"{reason[:1].upper()}{reason[1:]}; until that is mended everything that this policy matches is denied."
    return problem(policy, NO_PROVIDER, "spec.provider.name", message, "error")


def _provider(name: str, services: Catalog, mesh: MeshConfig) -> Authorizer | str:
    """Or why there is none."""
    given = next((one for one in mesh.extension_providers if one.get("name") == name), None)
    if given is None:
        return f"the mesh has no extensionProvider {name!r}"
    word = next((word for word in _KINDS if word in given), None)
    if word is None:
        return f"extensionProvider {name!r} is no envoyExtAuthzHttp or envoyExtAuthzGrpc"
    settings: Mapping[str, Any] = given[word]
    host = str(settings.get("service", "")).rpartition("/")[2]
    service, port = services.by_host.get(host), settings.get("port")
    if service is None or not isinstance(port, int) or service.port(port) is None:
        return f"extensionProvider {name!r} leads to {host}:{port}, which is no port of a service"
    return Authorizer(name=name, kind=_KINDS[word], cluster=f"outbound|{port}||{host}", host=host, settings=settings)


def policy_problems(snapshot: Snapshot) -> Iterator[Problem]:
    """What is wrong with policies, whoever they apply to."""
    for policy in snapshot.table(AuthorizationPolicy):
        yield from snapshot.memo(_unmatchable, policy)
        yield from _targetless(snapshot, policy)
    for authentication in snapshot.table(RequestAuthentication):
        yield from _keyless(snapshot, authentication)
        yield from _targetless(snapshot, authentication)


def _unmatchable(policy: AuthorizationPolicy) -> tuple[Problem, ...]:
    """What only an object that was not validated can have."""
    return tuple(
        problem(policy, UNTRANSLATABLE, found.path, f"{found.message}. {_meaning(found.path)}", "error")
        for found in authorization_policy(policy)
        if found.level == "error"
    )


def _meaning(path: str) -> str:
    if path.startswith("spec.targetRef"):
        return "This target gets no policy."
    return "What cannot be matched never allows, and always denies."


def _targetless(snapshot: Snapshot, policy: AuthorizationPolicy | RequestAuthentication) -> Iterator[Problem]:
    pods = snapshot.table(Pod).grouped(by_namespace).get(policy.namespace, ()) if policy.targets else ()
    there = {pod.metadata.labels.get(GATEWAY_NAME) for pod in pods}
    for index, target in enumerate(policy.targets):
        path = f"spec.targetRefs[{index}]" if policy.spec.target_refs else "spec.targetRef"
        if not target.is_gateway:
            message = f"A policy for a {target.kind} is enforced by a waypoint, and there are none: this one is not."
            yield problem(policy, NO_TARGET, path, message, "error")
        elif target.name not in there:
            message = (
                f"No Pod of namespace {policy.namespace} has the label {GATEWAY_NAME}: {target.name}, so nothing is "
                "guarded by this policy yet."
            )
            yield problem(policy, NO_TARGET, path, message)


def _keyless(snapshot: Snapshot, policy: RequestAuthentication) -> Iterator[Problem]:
    for index, rule in enumerate(policy.spec.jwt_rules):
        if reason := _without_keys(snapshot, rule):
            message = f"{reason}; tokens of {rule.issuer or 'this issuer'} are refused until there are keys."
            yield problem(policy, NO_KEYS, f"spec.jwtRules[{index}]", message, "error")


def _without_keys(snapshot: Snapshot, rule: JWTRule) -> str:
    """Why a rule has no keys; "" when it has."""
    url = key_source(rule)
    if url is None:
        usable = rule.jwks is not None and key_set(rule.jwks) is not None
        return "" if usable else "There is no JSON Web Key Set here"
    found = snapshot.get(KeySet, "", url)
    if found is None:
        return f"The keys at {url} have not been fetched yet"
    return "" if found.keys else f"The keys at {url} cannot be fetched: {found.failure}"
