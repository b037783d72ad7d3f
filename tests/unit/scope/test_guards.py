"""Which policies guard a workload, and what the reference says they mean."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mizzen.api.authorization import AuthorizationPolicy, RequestAuthentication
from mizzen.scope import resolve
from mizzen.scope.decision import Request, Verdict, audited, decide
from mizzen.scope.guards import guards, key_sources, policy_problems
from mizzen.scope.model import Guards
from mizzen.scope.snapshot import KeySet, Snapshot, present
from mizzen.scope.view import InboundView
from policies import authentication, plain
from worlds import world

APPLYING = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everywhere, namespace: istio-system}
spec: {rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: some-everywhere, namespace: istio-system}
spec: {selector: {matchLabels: {app: web}}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: here}
spec: {rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: some-here}
spec: {selector: {matchLabels: {app: web, version: v1}}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: other}
spec: {rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: targeted}
spec: {targetRefs: [{kind: Service, name: web}], rules: [{}]}
"""


def names(snapshot: Snapshot, namespace: str, **labels: str) -> list[str]:
    return [policy.name for policy in guards(snapshot, namespace, frozenset(labels.items())).policies]


def test_root_namespace_and_own_add_up_and_selectors_narrow() -> None:
    snapshot = world(APPLYING)
    assert names(snapshot, "default") == ["everywhere", "here"]
    assert names(snapshot, "default", app="web") == ["everywhere", "some-everywhere", "here"]
    assert names(snapshot, "default", app="web", version="v1")[-1] == "some-here"
    assert names(snapshot, "other") == ["everywhere", "elsewhere"]
    assert names(snapshot, "istio-system", app="web") == ["everywhere", "some-everywhere"]


GATEWAYS = """
apiVersion: v1
kind: Pod
metadata: {name: door-1, labels: {gateway.networking.k8s.io/gateway-name: door}}
spec: {containers: [{name: a}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: at-doors}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, name: window}
  - {group: gateway.networking.k8s.io, kind: Gateway, name: door}
  rules: [{}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: at-one}
spec: {targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: door}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: by-root, namespace: istio-system}
spec: {targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: door}, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: of-all}
spec: {rules: [{}]}
"""


def test_targets_are_gateways_of_the_policys_own_namespace() -> None:
    snapshot = world(GATEWAYS)
    labelled = {"gateway.networking.k8s.io/gateway-name": "door"}
    assert names(snapshot, "default", **labelled) == ["at-doors", "at-one", "of-all"]
    assert names(snapshot, "default", app="web") == ["of-all"]
    assert names(snapshot, "other", **labelled) == []
    found = {(one.name, one.path): one.message for one in policy_problems(snapshot)}
    assert [one.level for one in policy_problems(world(APPLYING)) if one.name == "targeted"] == ["error"]
    assert found.keys() == {("at-doors", "spec.targetRefs[0]"), ("by-root", "spec.targetRef")}
    assert "gateway-name: window" in found["at-doors", "spec.targetRefs[0]"]


def test_a_policy_for_others_changes_nothing_here() -> None:
    """The scope is the same object, so that nothing is translated again."""
    snapshot = world(APPLYING)
    view = InboundView(namespace="default", labels=(("app", "web"),))
    before = resolve.inbound(snapshot, view)
    other = replace(plain("new", rules=[{}]), metadata=replace(plain().metadata, name="new", namespace="other"))
    assert resolve.inbound(snapshot.apply(present(other)), view) is before
    neighbour = plain("neighbour", selector={"matchLabels": {"app": "next", "version": "v1"}}, rules=[{}])
    assert resolve.inbound(snapshot.apply(present(neighbour)), view) is before
    here = snapshot.apply(present(plain("new", action="DENY", rules=[{}])))
    assert resolve.inbound(here, view) is not before


def test_oldest_first_however_they_select() -> None:
    selectors = [{"app": "web"}, None, {"version": "v1"}, {"version": "v1", "app": "web"}, {"app": "web", "zone": "a"}]
    policies = [
        plain(f"p{age}", rules=[{}], **({"selector": {"matchLabels": asked}} if asked else {}))
        for age, asked in enumerate(selectors)
    ]
    snapshot = Snapshot.of(
        replace(one, metadata=replace(one.metadata, creation_timestamp=f"2026-01-01T00:00:0{9 - age}Z"))
        for age, one in enumerate(policies)
    )
    assert names(snapshot, "default", app="web", version="v1") == ["p3", "p2", "p1", "p0"]
    assert names(snapshot, "default", version="v1") == ["p2", "p1"]


CUSTOM = {"action": "CUSTOM", "provider": {"name": "mine"}, "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]}
PROVIDERS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: mine
      envoyExtAuthzHttp: {service: foo/authz.foo.svc.cluster.local, port: 8000}
    - name: gone
      envoyExtAuthzGrpc: {service: gone.foo.svc.cluster.local, port: 9000}
    - name: tracer
      zipkin: {service: zipkin, port: 9411}
---
apiVersion: v1
kind: Service
metadata: {name: authz, namespace: foo}
spec: {clusterIP: 10.96.0.9, ports: [{port: 8000, name: http}]}
"""


def with_custom(*providers: str) -> Guards:
    chosen = [plain(f"c-{name}", **{**CUSTOM, "provider": {"name": name}}) for name in providers]
    return guards(world(PROVIDERS).apply(*map(present, chosen)), "default", frozenset())


def test_an_authorizer_is_found() -> None:
    found = with_custom("mine")
    assert found.authorizer is not None and found.authorizer.cluster == "outbound|8000||authz.foo.svc.cluster.local"
    assert decide(found, Request(path="/a")).verdict is Verdict.ASK
    assert decide(found, Request(path="/b")).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        (["nobody"], "no extensionProvider"),
        (["gone"], "no port of a service"),
        (["tracer"], "is no envoyExtAuthzHttp"),
        (["mine", "gone"], "can ask one provider"),
    ],
)
def test_without_one_authorizer_what_matches_is_denied_and_said(providers: list[str], says: str) -> None:
    found = with_custom(*providers)
    assert found.authorizer is None and says in found.problems[0].message
    assert decide(found, Request(path="/a")).verdict is Verdict.DENY
    assert decide(found, Request(path="/b")).verdict is Verdict.ALLOW


def of(*policies: AuthorizationPolicy, tokens: tuple[RequestAuthentication, ...] = ()) -> Guards:
    return Guards(policies=policies, authentications=tokens)


def test_order_of_actions_and_the_meaning_of_nothing() -> None:
    everything, nothing = plain("all", rules=[{}]), plain("none")
    denied = plain("deny", action="DENY", rules=[{"to": [{"operation": {"methods": ["POST"]}}]}])
    noted = plain("note", action="AUDIT", rules=[{}])
    assert decide(of(), Request()).verdict is Verdict.ALLOW
    assert decide(of(nothing), Request()).verdict is Verdict.DENY
    assert decide(of(nothing, everything), Request()).verdict is Verdict.ALLOW
    assert decide(of(everything, denied), Request(method="POST")).verdict is Verdict.DENY
    assert decide(of(denied), Request()).verdict is Verdict.ALLOW
    assert decide(of(noted), Request()).verdict is Verdict.ALLOW and len(audited(of(noted), Request())) == 1
    (reason,) = decide(of(denied), Request(method="POST")).because
    assert str(reason) == "ns[default]-policy[deny]-rule[0]"


def test_http_fields_on_connections_are_void_for_allow_and_gone_for_deny() -> None:
    rule = {"to": [{"operation": {"paths": ["/a"], "ports": ["80"]}}]}
    connection = Request(http=False, port=80)
    assert decide(of(plain(rules=[rule])), connection).verdict is Verdict.DENY
    assert decide(of(plain(action="DENY", rules=[rule])), connection).verdict is Verdict.DENY
    assert decide(of(plain(action="DENY", rules=[rule])), replace(connection, port=81)).verdict is Verdict.ALLOW


def test_what_no_one_can_match_is_said() -> None:
    broken = plain("broken", rules=[{"from": [{"source": {"ipBlocks": ["nowhere"]}}]}])
    (found,) = policy_problems(world("").apply(present(broken)))
    assert (found.level, found.name, found.path) == ("error", "broken", "spec.rules[0].from[0].source.ipBlocks")


def test_keys_come_from_where_the_rule_says_and_their_absence_is_said() -> None:
    tokens = authentication(
        {"issuer": "https://a/"},
        {"issuer": "b", "jwksUri": "https://b/keys", "timeout": "2s"},
        {"issuer": "c", "jwks": "{}"},
    )
    snapshot = world("").apply(present(tokens))
    configuration = "https://a/.well-known/openid-configuration"
    assert key_sources(snapshot.table(RequestAuthentication)) == {configuration: 5.0, "https://b/keys": 2.0}
    assert len(list(policy_problems(snapshot))) == 3
    fetched = KeySet.of("https://b/keys", '{"keys": [{"kty": "EC"}]}'), KeySet.of(configuration, "", "nobody answers")
    later = snapshot.apply(*map(present, fetched))
    said = [found.message for found in policy_problems(later)]
    assert len(said) == 2 and "nobody answers" in said[0]
    assert dict(guards(later, "default", frozenset()).keys)["https://b/keys"]
