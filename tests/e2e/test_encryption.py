"""Mutual TLS between Pods and TLS at the gateway, seen from outside with real kubectl, curl and openssl."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from .conftest import Shell
from .mesh import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

LOAD = Path(__file__).with_name("load.py")
MODE = """cat <<EOF | kubectl apply -f -
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
EOF"""
OUTSIDER = """kubectl create namespace plain && cat <<EOF | kubectl apply -n plain -f -
apiVersion: v1
kind: Pod
metadata: {name: curl}
spec: {containers: [{name: curl, image: curlimages/curl, command: [sleep, infinity]}]}
EOF"""
# As the tutorial writes it, with a route to something that answers.
MY_GATEWAY = """cat <<EOF | kubectl apply -f -
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: my-gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [myapp.example.com, "*.example.com"]
  - port: {number: 443, name: https, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: tls-secret}
    hosts: [secure.example.com]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: my-app}
spec:
  hosts: [myapp.example.com, secure.example.com]
  gateways: [my-gateway]
  http: [{route: [{destination: {host: productpage, port: {number: 9080}}}]}]
EOF"""
ASK_OUTSIDE = "kubectl exec -n plain curl -- curl -sS -m 3 http://reviews.default:9080/reviews/0"


def node_port(shell: Shell, name: str) -> str:
    path = f'{{.spec.ports[?(@.name=="{name}")].nodePort}}'
    return shell.ok(f"kubectl -n istio-system get service istio-ingressgateway -o jsonpath='{path}'")


@pytest.fixture(scope="module")
def address(shell: Shell) -> str:
    """Of the node, with Bookinfo running."""
    shell.ok("mizzen demo")
    shell.ok('eval "$(mizzen env)"')
    return shell.ok("minikube ip")


def test_strict_and_back_under_load_loses_nothing(shell: Shell, address: str) -> None:
    shell.ok(OUTSIDER)
    shell.ok("kubectl wait -n plain --for=condition=ready pod/curl --timeout=60s")
    assert '"reviews"' in shell.ok(ASK_OUTSIDE)
    url = f"http://{address}:{node_port(shell, 'http2')}/productpage"
    shell.ok(f"({sys.executable} {LOAD} {url} --rate 10 --seconds 10 --methods GET > load.json) &")
    for mode in ("STRICT", "PERMISSIVE", "STRICT"):
        shell.ok("sleep 2")
        shell.ok(MODE.format(mode=mode))
    shell.ok("wait")
    report = json.loads(shell.ok("tail -1 load.json"))  # its first line says when the load began
    assert (report["sent"], report["failed"]) == (100, 0), report
    told = shell.ok("mizzen tls-check -n plain")
    assert re.search(r"curl.plain\s+reviews.default:9080\s+1 plaintext\s+plaintext to STRICT\s+refused", told), told
    code, output = shell.run("mizzen tls-check --if STRICT")
    assert code == 79 and "would break: curl.plain → reviews.default:9080 (1 plaintext)" in output
    code, output = shell.run(ASK_OUTSIDE)
    assert code != 0 and "reset by peer" in output
    assert "1 plaintext, 1 refused" in shell.ok("mizzen tls-check -n plain")
    described = shell.ok("istioctl x describe pod -n default deployment/details-v1")
    assert "Workload mTLS mode: STRICT" in described and "default.istio-system" in described
    assert "2/2" in shell.ok("kubectl get pods -l app=reviews"), "probes go on under STRICT"
    assert "(STRICT)" in shell.run("mizzen status")[1]


def test_one_root_follows_another_under_load(shell: Shell, address: str) -> None:
    before = json.loads(shell.ok("mizzen ca -o json"))
    assert [root["role"] for root in before["roots"]] == ["signs"]
    assert before["roots"][0]["workloads"] == before["proxies"] > 5
    url = f"http://{address}:{node_port(shell, 'http2')}/productpage"
    shell.ok(f"{sys.executable} {LOAD} {url} --rate 10 --seconds 60 --methods GET > load.json & echo $! > load.pid")
    told = shell.ok("mizzen ca rotate")
    shell.ok("kill -TERM $(cat load.pid); wait")
    report = json.loads(shell.ok("tail -1 load.json"))
    assert report["failed"] == 0 and report["sent"] > 50, report
    assert "the new root is trusted beside the old one" in told and "✔ only the new root is trusted" in told
    after = json.loads(shell.ok("mizzen ca root -o json"))
    assert [root["role"] for root in after["roots"]] == ["signs"]
    assert after["roots"][0]["workloads"] == after["proxies"]
    assert after["roots"][0]["fingerprint"] != before["roots"][0]["fingerprint"]
    held = json.loads(shell.ok("mizzen proxy-config secret deploy/productpage-v1 -o json"))
    assert [one["name"] for one in held if one["type"] == "CA"] == ["ROOTCA"], "the old root is gone"


# As Istio's own recipe makes them: a root, an authority below it, and the two in one file.
AUTHORITY = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout root-key.pem -out root-cert.pem -days 3 -subj /CN={0}"
    " && openssl req -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.csr -subj /CN=below"
    " && openssl x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -days 3 -out ca-cert.pem"
    " -extfile <(printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign,cRLSign\\n')"
    " && cat ca-cert.pem root-cert.pem > cert-chain.pem"
)
CACERTS = (
    "kubectl create secret generic cacerts -n istio-system --from-file=ca-cert.pem --from-file=ca-key.pem"
    " --from-file=root-cert.pem --from-file=cert-chain.pem"
)


def test_an_authority_of_ones_own_comes_changes_and_goes_under_load(shell: Shell, address: str) -> None:
    def signs() -> list[str]:
        """Whose root alone is trusted, once every workload holds a certificate of it."""
        found = json.loads(shell.ok("mizzen ca -o json"))
        everybody = [one["subject"] for one in found["roots"] if one.get("workloads") == found["proxies"]]
        return everybody if len(found["roots"]) == 1 else []

    (before,) = signs()
    url = f"http://{address}:{node_port(shell, 'http2')}/productpage"
    shell.ok(f"{sys.executable} {LOAD} {url} --rate 10 --seconds 120 --methods GET > load.json & echo $! > load.pid")
    for name, command in (("first", CACERTS), ("second", f"{CACERTS} --dry-run=client -o yaml | kubectl replace -f -")):
        shell.ok(AUTHORITY.format(name))
        shell.ok(command)
        eventually(lambda name=name: signs() == [f"CN={name}"], 60)  # type: ignore[misc]
    shell.ok("kubectl delete secret cacerts -n istio-system")
    eventually(lambda: signs() == [before], 60)
    shell.ok("kill -TERM $(cat load.pid); wait")
    report = json.loads(shell.ok("tail -1 load.json"))
    assert report["failed"] == 0 and report["sent"] > 50, report


RELABELLED = "kubectl label pod -l app=ratings service.istio.io/canonical-revision=v7 --overwrite"
SUBJECT = "mizzen proxy-config secret deploy/ratings-v1 -o json"


def test_a_relabelled_pod_is_issued_anew(shell: Shell, address: str) -> None:
    def subjects() -> list[str]:
        return [one["subject"] for one in json.loads(shell.ok(SUBJECT)) if one["type"] == "Cert Chain"]

    (before,) = subjects()
    assert "OU=v1" in before and "CN=ratings-v1" in before and "O=default" in before
    shell.ok(RELABELLED)
    eventually(lambda: subjects() == [before.replace("OU=v1", "OU=v7")])
    shell.ok(RELABELLED.replace("v7", "v1"))
    eventually(lambda: subjects() == [before])


def test_the_tutorials_gateway_waits_for_its_secret(shell: Shell, address: str) -> None:
    http, https = node_port(shell, "http2"), node_port(shell, "https")
    secure = f"curl -sS --cacert c.pem --resolve secure.example.com:{https}:{address} -o /dev/null -w '%{{http_code}}'"
    page = f"https://secure.example.com:{https}/productpage"
    shell.ok(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 3 -subj /CN=secure.example.com"
        " -addext subjectAltName=DNS:secure.example.com,DNS:other.example.com"
    )
    shell.ok(MY_GATEWAY)
    shell.ok("sleep 1")
    assert shell.ok(
        f"curl -sS -H 'Host: myapp.example.com' -o /dev/null -w '%{{http_code}}' http://{address}:{http}/productpage"
    ) == ("200")
    assert shell.run(f"{secure} {page}")[0] == 35
    told = shell.ok("kubectl get gateways.networking.istio.io my-gateway -o jsonpath='{.status.conditions[0].message}'")
    assert "Secret tls-secret is not in namespace istio-system" in told
    shell.ok("kubectl create secret tls tls-secret -n istio-system --cert=c.pem --key=k.pem")
    shell.ok("sleep 1")
    assert shell.ok(f"{secure} {page}") == "200"
    assert shell.ok(f"{secure} -H 'Host: other.example.com' {page}") == "421"


# An outside host that talks only to those who show a certificate of its authority, and calls to it by way of the egress
# gateway, which begins the TLS.
BANK = """cat <<EOF | kubectl apply -f -
apiVersion: v1
kind: Pod
metadata: {name: bank, namespace: plain, labels: {app: bank}}
spec:
  containers:
  - name: server
    image: curlimages/curl
    command: [openssl, s_server, -accept, "8443", -cert, /tls/tls.crt, -key, /tls/tls.key, -CAfile, /tls/ca.crt,
      -Verify, "1", -verify_return_error, -www, -quiet]
    volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: bank}}]
---
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: plain}
spec:
  selector: {app: bank}
  ports: [{name: http, port: 80, targetPort: 8443}, {name: http-secure, port: 443, targetPort: 8443}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: plain}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [bank.plain.svc.cluster.local]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: plain}
spec:
  hosts: [bank.plain.svc.cluster.local]
  gateways: [out, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [out], port: 80}]
    route: [{destination: {host: bank.plain.svc.cluster.local, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: plain}
spec:
  host: bank.plain.svc.cluster.local
  trafficPolicy:
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: MUTUAL, credentialName: bank-client, sni: bank.example.com, subjectAltNames: [bank.example.com]}
EOF"""
SIGNED = (
    "openssl req -newkey rsa:2048 -nodes -keyout {0}.key -out {0}.csr -subj /CN={0} && openssl x509 -req -in {0}.csr"
    " -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 -out {0}.crt -extfile <(echo subjectAltName=DNS:{0})"
)
ASK_BANK = (
    "kubectl exec deploy/productpage-v1 -c productpage -- python3 -c "
    '"import urllib.request as u; '
    "print(u.urlopen('http://bank.plain.svc.cluster.local/', timeout=5).read().decode())\""
)


def test_the_egress_gateway_shows_a_certificate_out_of_a_secret(shell: Shell, address: str) -> None:
    shell.ok("openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3 -subj /CN=outside")
    for name in ("bank.example.com", "client"):
        shell.ok(SIGNED.format(name))
    shell.ok(
        "kubectl create secret generic bank -n plain --from-file=tls.crt=bank.example.com.crt"
        " --from-file=tls.key=bank.example.com.key --from-file=ca.crt"
    )
    shell.ok(BANK)
    shell.ok("kubectl wait -n plain --for=condition=ready pod/bank --timeout=60s")
    until_it_says(shell, ASK_BANK, "503")
    told = shell.ok("kubectl get destinationrules -n plain bank -o jsonpath='{.status.conditions[0].message}'")
    assert "Secret bank-client is not in namespace istio-system" in told
    shell.ok(
        "kubectl create secret generic bank-client -n istio-system --from-file=tls.crt=client.crt"
        " --from-file=tls.key=client.key --from-file=ca.crt"
    )
    assert "CN = client" in until_it_says(shell, ASK_BANK, "Client certificate").replace("CN=", "CN = ")
    shell.ok("kubectl delete secret bank-client -n istio-system")
    until_it_says(shell, ASK_BANK, "503")


def until_it_says(shell: Shell, line: str, wanted: str, patience: float = 10.0) -> str:
    deadline = time.monotonic() + patience
    while wanted not in (output := shell.run(line)[1]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted in output, f"$ {line}\n{output}"
    return output
