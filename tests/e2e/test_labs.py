"""Labs 1, 2, 3, 4 and 6 of the tutorial, typed as its readers type them, twice in a row on one machine."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

SPLIT = """cat <<EOF | kubectl apply -f -
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
    - reviews
  http:
    - route:
        - destination:
            host: reviews
            subset: v1
          weight: 50
        - destination:
            host: reviews
            subset: v3
          weight: 50
EOF"""

STRICT = """cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata:
  name: default
  namespace: default
spec:
  mtls:
    mode: STRICT
EOF"""


@pytest.mark.parametrize("round_", ["first", "second"])
def test_labs(shell: Shell, round_: str) -> None:
    lab_1_install(shell)
    lab_2_deploy(shell)
    lab_3_split(shell)
    lab_4_encrypt(shell)
    lab_6_clean_up(shell)


def lab_1_install(shell: Shell) -> None:
    shell.ok('eval "$(mizzen env)"')
    shell.ok("minikube start --cpus=4 --memory=8192")
    assert " Ready " in shell.ok("kubectl get nodes")
    shell.ok("mizzen samples export istio-1 && cd istio-1 && export PATH=$PWD/bin:$PATH")
    shell.ok("istioctl install --set profile=demo -y")
    shell.ok("kubectl label namespace default istio-injection=enabled")
    assert "istio-injection=enabled" in shell.ok("kubectl get namespace default --show-labels")
    pods = shell.ok("kubectl get pods -n istio-system")
    for name in ("istiod", "istio-ingressgateway", "istio-egressgateway"):
        assert re.search(rf"^{name}-\S+\s+1/1\s+Running", pods, re.M), pods


def lab_2_deploy(shell: Shell) -> None:
    shell.ok("kubectl apply -f samples/bookinfo/platform/kube/bookinfo.yaml")
    shell.ok("kubectl wait --for=condition=ready pod --all --timeout=120s")
    pods = shell.ok("kubectl get pods")
    assert len(re.findall(r"\s2/2\s+Running", pods)) == 6, pods
    shell.ok("kubectl apply -f samples/bookinfo/networking/bookinfo-gateway.yaml")
    shell.ok("export INGRESS_HOST=$(minikube ip)")
    shell.ok(
        "export INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway"
        " -o jsonpath='{.spec.ports[?(@.name==\"http2\")].nodePort}')"
    )
    page = shell.ok(
        "curl -sS --fail --retry 20 --retry-delay 1 --retry-all-errors http://$INGRESS_HOST:$INGRESS_PORT/productpage"
    )
    assert "<title>Simple Bookstore App</title>" in page


def lab_3_split(shell: Shell) -> None:
    shell.ok("kubectl apply -f samples/bookinfo/networking/destination-rule-all.yaml")
    shell.ok("kubectl apply -f samples/bookinfo/networking/virtual-service-all-v1.yaml")
    shell.ok("sleep 1")
    assert set(versions(shell, 10)) == {"reviews-v1"}
    shell.ok(SPLIT)
    shell.ok("sleep 1")
    # 40 pages at 50/50: fewer than 6 of either has a chance below one in a million.
    seen = versions(shell, 40)
    assert set(seen) == {"reviews-v1", "reviews-v3"}
    assert 6 <= seen.count("reviews-v1") <= 34


def versions(shell: Shell, pages: int) -> list[str]:
    """Which reviews answered, one entry per page (each page names it twice)."""
    output = shell.ok(
        f"for i in {{1..{pages}}}; do curl -s http://$INGRESS_HOST:$INGRESS_PORT/productpage"
        " | grep -o 'reviews-v[0-9]' | head -1; done"
    )
    found = output.split()
    assert len(found) == pages, output
    return found


def lab_4_encrypt(shell: Shell) -> None:
    """Its check names a Deployment that there is not; what it is meant to show, `tls-check` does."""
    shell.ok(STRICT)
    code, output = shell.run("istioctl x authz check deployment/productpage")
    assert code != 0 and "did you mean productpage-v1" in output
    assert "this shows policies" in output and "`mizzen tls-check` shows who speaks mTLS" in output
    page = shell.ok("curl -sS http://$INGRESS_HOST:$INGRESS_PORT/productpage")
    assert "<title>Simple Bookstore App</title>" in page and "Reviewer1" in page
    rows = json.loads(shell.ok("mizzen tls-check -n default -o json"))
    spoken = {(row["client"], row["server"]): (row["speaks"], row["takes"], row["verdict"]) for row in rows}
    assert spoken["istio-ingressgateway.istio-system", "productpage.default:9080"] == ("mTLS", "STRICT", "mTLS")
    assert spoken["productpage-v1.default", "details.default:9080"] == ("mTLS", "STRICT", "mTLS")
    described = shell.ok("istioctl x describe service details")
    assert "Service: details" in described and "DestinationRule: details" in described


def lab_6_clean_up(shell: Shell) -> None:
    shell.ok("kubectl delete -f samples/bookinfo/platform/kube/bookinfo.yaml")
    shell.ok("kubectl delete -f samples/bookinfo/networking/bookinfo-gateway.yaml")
    shell.ok("kubectl delete -f samples/addons")
    shell.ok("istioctl uninstall --purge -y")
    shell.ok("kubectl delete namespace istio-system")
    shell.ok("kubectl label namespace default istio-injection-")
    nothing_is_left(shell)
    shell.ok("cd")


def nothing_is_left(shell: Shell) -> None:
    crds = json.loads(shell.ok("kubectl get crds -o json"))["items"]
    assert [crd["metadata"]["name"] for crd in crds if "istio.io" in crd["metadata"]["name"]] == []
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "clusterroles"):
        names = shell.ok(f"kubectl get {kind} -o name")
        assert "istio" not in names
    assert "istio-ca-root-cert" not in shell.ok("kubectl get configmaps -A -o name")
