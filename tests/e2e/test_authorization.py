"""Who may call what in Bookinfo, with real kubectl: identities from mutual TLS, and tokens at the gateway."""

from __future__ import annotations

import json
import re
import time

import pytest

from policies import key_set, signing_key, token

from .conftest import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

PATIENCE = 5.0
"""Seconds within which an edit must hold; it takes some milliseconds."""
NOTHING = """cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-nothing, namespace: default}
spec: {}
EOF"""
CALLERS = {
    "productpage": "",
    "details": "bookinfo-productpage",
    "reviews": "bookinfo-productpage",
    "ratings": "bookinfo-reviews",
}
"""Workload -> whose calls it takes; "" anybody's."""
TOKENS = """cat <<'EOF' | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules: [{{issuer: here, jwks: '{keys}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: users-only, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  action: DENY
  rules: [{{from: [{{source: {{notRequestPrincipals: ["here/*"]}}}}]}}]
EOF"""

AUTHORIZERS = """cat <<EOF > authorizers.yaml
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: demo
  meshConfig:
    extensionProviders:
    - name: by-http
      envoyExtAuthzHttp:
        {service: ext-authz.default.svc.cluster.local, port: 8000, includeRequestHeadersInCheck: [x-ext-authz]}
    - name: by-grpc
      envoyExtAuthzGrpc: {service: ext-authz.default.svc.cluster.local, port: 9000}
EOF"""

OF_THE_GATEWAY = """cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: authorizer, namespace: default}
spec:
  selector: {matchLabels: {app: ext-authz}}
  rules: [{from: [{source: {serviceAccounts: [istio-system/istio-ingressgateway-service-account]}}]}]
EOF"""


def asking(provider: str) -> str:
    return f"""cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{{to: [{{operation: {{paths: [/productpage]}}}}]}}]
EOF"""


def viewer(workload: str, account: str) -> str:
    source = f'from: [{{source: {{principals: ["cluster.local/ns/default/sa/{account}"]}}}}], ' if account else ""
    return f"""cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {workload}-viewer, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {workload}}}}}
  rules: [{{{source}to: [{{operation: {{methods: [GET]}}}}]}}]
EOF"""


@pytest.fixture(scope="module")
def page(shell: Shell) -> str:
    """The URL of Bookinfo's page."""
    found = re.search(r"http://\S+/productpage", shell.ok("mizzen demo --requests 5"))
    assert found is not None
    shell.ok('eval "$(mizzen env)"')
    return found[0]


def until_it_says(shell: Shell, line: str, wanted: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while wanted not in (output := shell.run(line)[1]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted in output, f"$ {line}\n{output}"
    return output


def test_least_privilege_step_by_step(shell: Shell, page: str) -> None:
    ask = f"curl -sS -w ' %{{http_code}}' {page}"
    shell.ok(NOTHING)
    until_it_says(shell, ask, "RBAC: access denied 403")
    shell.ok(viewer("productpage", ""))
    until_it_says(shell, ask, "Error fetching product details")
    shell.ok(viewer("details", CALLERS["details"]))
    until_it_says(shell, ask, "ISBN-10")
    assert "Error fetching product reviews" in shell.ok(ask)
    shell.ok(viewer("reviews", CALLERS["reviews"]))
    until_it_says(shell, ask, "Reviewer1")
    shell.ok(viewer("ratings", CALLERS["ratings"]))
    code, _ = shell.run("kubectl wait --for=condition=ready pod --all --timeout=5s")
    assert code == 0, "probes are not the mesh's business"
    from_productpage = "kubectl exec deploy/productpage-v1 -c productpage -- python3 -c \"import urllib.request as u; u.urlopen('http://ratings:9080/ratings/0')\""
    assert "403" in shell.run(from_productpage)[1], "ratings are for reviews alone"


def test_check_says_what_a_pod_enforces(shell: Shell, page: str) -> None:
    rows = shell.ok("istioctl x authz check deployment/details-v1").splitlines()
    assert rows[0].split() == ["ACTION", "AuthorizationPolicy", "RULES"]
    assert ["ALLOW", "details-viewer.default", "1"] in [row.split() for row in rows[1:]]
    code, output = shell.run("istioctl x authz check deployment/productpage")
    assert code != 0 and "did you mean productpage-v1" in output and "mTLS" in output


def test_a_drain_ends_what_runs(shell: Shell, page: str) -> None:
    """The gateway's and productpage's connections to details end in time; the next request makes a new one."""
    shell.ok(
        "kubectl patch deployment details-v1 --type merge -p "
        """'{"spec":{"template":{"metadata":{"annotations":{"proxy.istio.io/config":"{drainDuration: 1s}"}}}}}'"""
    )
    shell.ok("kubectl rollout status deployment/details-v1 --timeout=60s")
    until_it_says(shell, f"curl -sS {page}", "ISBN-10")
    rows = json.loads(shell.ok("mizzen x authz drain deployment/details-v1 --timeout 30 -o json"))
    assert [row["connections"] > 0 and row["done"] for row in rows] == [True]
    assert "ISBN-10" in shell.ok(f"curl -sS {page}")
    shell.ok("kubectl rollout restart deployment/details-v1")
    shell.ok("mizzen x authz drain deployment/details-v1 --timeout 30")
    shell.ok("kubectl rollout status deployment/details-v1 --timeout=60s")
    code, output = shell.run("mizzen x authz drain deployment/details")
    assert code == 1 and "did you mean details-v1" in output


def test_tokens_at_the_gateway(shell: Shell, page: str) -> None:
    shell.ok(TOKENS.format(keys=key_set(signing_key())))
    ask = f"curl -sS -o /dev/null -w '%{{http_code}}' {page}"
    until_it_says(shell, ask, "403")
    assert shell.ok(f"{ask} -H 'authorization: Bearer {token({'iss': 'here', 'sub': 'me'})}'") == "200"
    assert shell.ok(f"{ask} -H 'authorization: Bearer {token({'iss': 'elsewhere', 'sub': 'me'})}'") == "401"
    shell.ok("kubectl delete -n istio-system requestauthentication/users authorizationpolicy/users-only")
    until_it_says(shell, ask, "200")


def test_an_authorizer_of_ones_own_has_its_say_at_the_gateway(shell: Shell, page: str) -> None:
    """A member of the mesh, asked by mutual TLS, and only by whom a policy lets ask."""
    shell.ok("mizzen samples export exported && kubectl apply -f exported/samples/ext-authz/ext-authz.yaml")
    shell.ok(f"{AUTHORIZERS}\nmizzen install -f authorizers.yaml -y")
    shell.ok("kubectl rollout status deployment/ext-authz --timeout=60s")
    ask = f"curl -sS -o /dev/null -w '%{{http_code}} %header{{x-ext-authz-check-result}}' {page}"
    allowed = f"{ask} -H 'x-ext-authz: allow'"
    shell.ok(asking("by-http"))
    until_it_says(shell, allowed, "403")
    shell.ok(OF_THE_GATEWAY)
    until_it_says(shell, allowed, "200")
    assert shell.ok(ask) == "403 denied"
    shell.ok(asking("by-grpc"))
    until_it_says(shell, f"{ask}; mizzen tls-check", "ext-authz.default:9000")
    assert shell.ok(ask) == "403 denied"
    assert shell.ok(allowed).startswith("200")
    assert "403" not in shell.ok(ask.replace("productpage", "login")), "nobody is asked about other paths"
    shell.ok(asking("nobody"))
    until_it_says(shell, allowed, "403")
    told = shell.ok("kubectl get authorizationpolicy/ask -n istio-system -o jsonpath='{.status.conditions[0].message}'")
    assert "no extensionProvider 'nobody'" in told
    rows = json.loads(shell.ok("mizzen tls-check -o json"))
    assert {row["verdict"] for row in rows if "ext-authz" in row["server"]} == {"mTLS"}
    shell.ok("kubectl delete authorizationpolicy/ask -n istio-system")
    until_it_says(shell, ask, "200")


def test_what_is_not_valid_is_not_accepted(shell: Shell, page: str) -> None:
    code, output = shell.run(NOTHING.replace("spec: {}", "spec: {action: DENY}"))
    assert code != 0 and "never be triggered" in output
    code, output = shell.run(NOTHING.replace("spec: {}", "spec: {rules: [{when: [{key: no.such, values: [a]}]}]}"))
    assert code != 0 and "no key of a condition" in output
