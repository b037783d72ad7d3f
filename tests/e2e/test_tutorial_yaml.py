"""The tutorial's own Gateway, VirtualService and DestinationRules: as written where that works, else corrected."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from mizzen.cli import exits

from .mesh import Mesh, eventually, within_chance

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

GATEWAY = """
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata:
  name: my-gateway
spec:
  selector:
    istio: ingressgateway  # Use default Istio gateway
  servers:
    # HTTP server
    - port:
        number: 80
        name: http
        protocol: HTTP
      hosts:
        - "myapp.example.com"
        - "*.example.com"      # Wildcard

    # HTTPS server
    - port:
        number: 443
        name: https
        protocol: HTTPS
      tls:
        mode: SIMPLE           # TLS termination
        credentialName: tls-secret  # K8s secret with cert
      hosts:
        - "secure.example.com"
"""
VIRTUAL_SERVICE = """apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: my-vs
spec:
  hosts:
    - "myapp.example.com"
    - my-service              # Internal service
  gateways:
    - my-gateway              # External traffic
    - mesh                    # Internal mesh traffic
  http:
    # Rule 1: Route by header (canary)
    - match:
        - headers:
            x-version:
              exact: "v2"     # If header x-version: v2
      route:
        - destination:
            host: my-service
            subset: v2        # Route to v2 pods

    # Rule 2: Traffic splitting (90/10)
    - route:
        - destination:
            host: my-service
            subset: v1
          weight: 90          # 90% to v1
        - destination:
            host: my-service
            subset: v2
          weight: 10          # 10% to v2
"""
POLICY = """
    retries:
      attempts: 3
      perTryTimeout: 2s
      retryOn: gateway-error,connect-failure,refused-stream

    timeout: 10s
"""
AS_WRITTEN = VIRTUAL_SERVICE + POLICY
INSIDE = POLICY.replace("\n    ", "\n      ")
CORRECTED = VIRTUAL_SERVICE.replace("        # Route to v2 pods\n", INSIDE) + INSIDE
OF_THE_WILDCARD = (
    CORRECTED.replace("my-vs", "foo-vs").replace('- "myapp', '- "foo').replace("    - my-service  ", "    #")
)
DESTINATION_RULE = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: my-dr
spec:
  host: my-service
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 100
      http:
        h2UpgradePolicy: UPGRADE
        http1MaxPendingRequests: 100
        http2MaxRequests: 1000
    loadBalancer:
      simple: ROUND_ROBIN     # or LEAST_CONN, RANDOM, PASSTHROUGH
    outlierDetection:
      consecutive5xxErrors: 5
      interval: 30s
      baseEjectionTime: 30s
      maxEjectionPercent: 100
  subsets:
    - name: v1
      labels:
        version: v1           # Pods with version=v1 label
    - name: v2
      labels:
        version: v2
"""
CIRCUIT_BREAKER = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: circuit-breaker
spec:
  host: my-service
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 100           # Max TCP connections
      http:
        http1MaxPendingRequests: 100  # Max pending HTTP/1.1 requests
        http2MaxRequests: 1000        # Max HTTP/2 requests
        maxRequestsPerConnection: 10  # Requests before closing connection

    outlierDetection:
      consecutive5xxErrors: 5         # 5 errors to trigger
      interval: 30s                   # Detection interval
      baseEjectionTime: 30s           # How long to eject
      maxEjectionPercent: 50          # Max % of hosts to eject
      minHealthPercent: 30            # Min healthy hosts required
"""
EVERYTHING_PLAIN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-vs}
spec:
  hosts: [myapp.example.com, my-service]
  gateways: [my-gateway, mesh]
  http: [{route: [{destination: {host: my-service}}], retries: {attempts: 0}}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: my-service}
spec:
  ports: [{name: http, port: 80, targetPort: 8080}]
  selector: {app: my-service}
"""
WORKLOAD = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-service-EDITION}
spec:
  selector: {matchLabels: {app: my-service, version: EDITION}}
  template:
    metadata: {labels: {app: my-service, version: EDITION}}
    spec:
      containers:
      - {name: app, image: "mizzen/echo:1.0", args: ["--grpc", "0"], env: [{name: SERVICE_VERSION, value: EDITION}]}
"""
CALLS = 600


@pytest.fixture(scope="module")
def url(mesh: Mesh) -> Iterator[str]:
    mesh.apply(SERVICE + WORKLOAD.replace("EDITION", "v1") + WORKLOAD.replace("EDITION", "v2"))
    mesh.mizzen("samples", "export", str(mesh.state.parent / "samples"))
    mesh.kubectl("apply", "-f", str(mesh.state.parent / "samples/samples/curl"))
    for text in (GATEWAY, DESTINATION_RULE, CORRECTED, OF_THE_WILDCARD):
        mesh.apply(text)
    mesh.ready()
    mesh.in_force("gateway/my-gateway", "destinationrule/my-dr", "virtualservice/my-vs", "virtualservice/foo-vs")
    yield mesh.gateway()


def versions(text: str) -> Counter[str]:
    return Counter(re.findall(r'"version": "(v\d)"', text))


def test_the_gateway_works_on_port_80_and_says_what_its_https_server_lacks(mesh: Mesh, url: str) -> None:
    said = mesh.condition("gateway", "my-gateway")
    assert said and "spec.servers[1]" in said["message"]
    assert "tls-secret" in said["message"] and "istio-system" in said["message"], said
    assert mesh.outside("-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: myapp.example.com", url) == "200"
    assert mesh.outside("-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: other.example.com", url) == "404"


@pytest.mark.parametrize("host", ["myapp.example.com", "foo.example.com"])
def test_the_split_from_the_gateway(mesh: Mesh, url: str, host: str) -> None:
    chosen = versions(mesh.outside(f"{url}/?n=[1-50]", "-H", f"Host: {host}", "-H", "x-version: v2"))
    assert chosen == {"v2": 50}
    split = versions(mesh.outside(f"{url}/?n=[1-{CALLS}]", "-H", f"Host: {host}"))
    assert split.total() == CALLS and within_chance(split["v2"], CALLS, 0.1), split


def test_the_split_from_inside_the_mesh(mesh: Mesh, url: str) -> None:
    chosen = versions(mesh.curl("http://my-service/?n=[1-50]", "-H", "x-version: v2"))
    assert chosen == {"v2": 50}
    split = versions(mesh.curl(f"http://my-service/?n=[1-{CALLS}]"))
    assert split.total() == CALLS and within_chance(split["v2"], CALLS, 0.1), split


V2 = ("-H", "x-version: v2", "-H", "Host: myapp.example.com")


@pytest.mark.parametrize("start", ["gateway", "mesh"])
def test_a_failing_app_is_tried_four_times(mesh: Mesh, url: str, start: str) -> None:
    def ask(query: str) -> tuple[str, int]:
        """The answer's code, and how often v2 was asked for it. (That it answers this keeps it from being ejected.)"""
        if start == "mesh":
            code = mesh.curl(f"http://my-service/?{query}", *V2[:2], "-o", "/dev/null", "-w", "%{http_code}")
            return code, json.loads(mesh.curl(f"http://my-service/count?{query}", *V2[:2]))["count"]
        code = mesh.outside(f"{url}/?{query}", *V2, "-o", "/dev/null", "-w", "%{http_code}")
        return code, json.loads(mesh.outside(f"{url}/count?{query}", *V2))["count"]

    assert ask(f"fail=9&fail-key={start}-1&key={start}-1") == ("503", 4)
    assert ask(f"fail=3&fail-key={start}-2&key={start}-2") == ("200", 4)
    # An answer of 500 is no gateway error.
    assert ask(f"fail=1&fail-status=500&fail-key={start}-3&key={start}-3") == ("500", 1)


def test_each_try_may_take_two_seconds_and_all_of_them_ten(mesh: Mesh, url: str) -> None:
    begun = time.monotonic()
    code = mesh.outside(f"{url}/?delay=4&fail-key=slow", *V2, "-o", "/dev/null", "-w", "%{http_code}")
    assert code == "504"
    assert 8 <= time.monotonic() - begun < 10
    assert json.loads(mesh.outside(f"{url}/count?key=slow", *V2)) == {"count": 4}


def test_the_virtual_service_as_written_is_refused_with_the_cure(mesh: Mesh, url: str) -> None:
    before = mesh.get("virtualservice", "my-vs")
    file = mesh.state.parent / "my-vs.yaml"
    file.write_text(AS_WRITTEN)
    line = AS_WRITTEN.splitlines().index("    retries:") + 1
    said = mesh.mizzen("validate", "-f", str(file), code=exits.UNPARSABLE)
    assert f"{file}:{line}:" in said
    assert "`retries` and `timeout`" in said and "they belong inside an item of `http`" in said, said
    assert "error converting YAML to JSON" in mesh.kubectl("apply", "-f", str(file), code=1)
    assert mesh.get("virtualservice", "my-vs") == before


def test_a_second_rule_for_the_host_is_told_about(mesh: Mesh, url: str) -> None:
    said = mesh.apply(CIRCUIT_BREAKER)
    assert "Warning:" in said and "my-dr" in said and "circuit-breaker" in said, said
    told = eventually(lambda: mesh.condition("destinationrule", "circuit-breaker"))
    assert told and "my-dr" in told["message"], told


def test_the_circuit_breaker(mesh: Mesh, url: str) -> None:
    mesh.apply(EVERYTHING_PLAIN)
    mesh.kubectl("delete", "destinationrule", "my-dr")
    mesh.apply(CIRCUIT_BREAKER)
    mesh.in_force("virtualservice/my-vs", "destinationrule/circuit-breaker")
    eventually(lambda: mesh.condition("destinationrule", "circuit-breaker")["message"] == "")  # type: ignore[index]
    answers = asyncio.run(at_once(f"{url}/?delay=3", 350))
    # 100 connections and 100 that wait for one; while connections are being made, those who wait are all there is.
    assert 100 <= answers[200, ""] <= 220, answers
    assert answers[503, "true"] == 350 - answers[200, ""], answers
    log = mesh.kubectl("logs", "-n", "istio-system", "deploy/istio-ingressgateway", "--tail=400")
    assert len(re.findall(r'" 503 UO upstream_max_connections|" 503 UO ', log)) >= 100


async def at_once(url: str, number: int) -> Counter[tuple[int, str]]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"Host": "myapp.example.com"}
    ) as session:

        async def ask() -> tuple[int, str]:
            async with session.get(url) as response:
                await response.read()
                return response.status, response.headers.get("x-envoy-overloaded", "")

        return Counter(await asyncio.gather(*(ask() for _ in range(number))))


def test_a_failing_pod_is_ejected(mesh: Mesh, url: str) -> None:
    """Half of the Pods at most, after five errors in a row."""
    host = ("-H", "Host: myapp.example.com")
    first = mesh.outside(f"{url}/?fail=999&fail-key=sick&fail-at=v2&n=[1-30]", *host, "-w", "\n%{http_code}\n")
    # The ejection is the main thread's work: a worker may send one or two more.
    assert 5 <= first.count("\n503\n") <= 8, Counter(re.findall(r"\n(\d+)\n", first))
    later = versions(mesh.outside(f"{url}/?n=[1-50]", *host))
    assert later == {"v1": 50}
