"""Ingresses by the real kubectl: class, paths, address, TLS, and what is said when something is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mizzen.ca.authority import new_root, sign_serving

from .mesh import Mesh, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: mesh
  annotations: {ingressclass.kubernetes.io/is-default-class: "true"}
spec: {controller: istio.io/ingress-controller}
"""
NOW = datetime.now(UTC)
CODE = ("-o", "/dev/null", "-w", "%{http_code}")


@pytest.fixture(scope="module")
def url(mesh: Mesh) -> str:
    folder = mesh.mizzen("samples", "path").strip()
    mesh.kubectl("apply", "-f", f"{folder}/helloworld/helloworld.yaml", "-f", f"{folder}/httpbin/httpbin.yaml")
    mesh.apply(CLASS)
    mesh.ready()
    rules = ("--rule=a.example.com/hello=helloworld:http", "--rule=a.example.com/status/*=httpbin:8000,tls=cert")
    mesh.kubectl("create", "ingress", "web", *rules, "--default-backend=httpbin:8000")
    return mesh.gateway()


def test_the_default_class_is_filled_in_and_the_gateways_address_is_written(mesh: Mesh, url: str) -> None:
    mesh.kubectl("wait", "--for=jsonpath={.status.loadBalancer.ingress}", "ingress/web", "--timeout=30s")
    name, kind, hosts, address, *_ = mesh.kubectl("get", "ingress", "web", "--no-headers").split()
    assert (name, kind, hosts, address) == ("web", "mesh", "a.example.com", mesh.mizzen("ip").strip())


def test_paths_hosts_and_the_default_backend(mesh: Mesh, url: str) -> None:
    def code(path: str, host: str = "a.example.com") -> str:
        return mesh.outside("-H", f"Host: {host}", *CODE, f"{url}{path}")

    eventually(lambda: code("/hello") == "200")
    assert "Hello version: v" in mesh.outside("-H", "Host: a.example.com", f"{url}/hello")
    assert (code("/status/418"), code("/status/204")) == ("418", "204")
    assert code("/hellos") == "404"  # httpbin's own: the default backend
    assert code("/status/418", "elsewhere.org") == "418"


def test_tls_is_said_to_lack_its_secret_and_works_when_it_is_there(mesh: Mesh, url: str, tmp_path: Path) -> None:
    eventually(lambda: "IST0101" in mesh.kubectl("describe", "ingress", "web"))
    assert "Secret cert is not in namespace istio-system" in mesh.kubectl("describe", "ingress", "web")
    key, chain = sign_serving(new_root("example.com", NOW, 1), ["a.example.com"], NOW, 2)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "chain").write_bytes(chain)
    files = (f"--cert={tmp_path}/chain", f"--key={tmp_path}/key")
    mesh.kubectl("create", "secret", "tls", "cert", "-n", "istio-system", *files)
    path = 'jsonpath={.spec.ports[?(@.name=="https")].nodePort}'
    port = mesh.kubectl("get", "svc", "istio-ingressgateway", "-n", "istio-system", "-o", path)
    words = ("-k", "--resolve", f"a.example.com:{port}:{mesh.mizzen('ip').strip()}")
    eventually(lambda: mesh.succeeds("curl", "-sS", *words, f"https://a.example.com:{port}/hello"))
    assert mesh.outside(*words, *CODE, f"https://a.example.com:{port}/status/202") == "202"


def test_what_is_deleted_is_no_longer_served(mesh: Mesh, url: str) -> None:
    mesh.kubectl("delete", "ingress", "web")
    call = ("curl", "-sS", "-f", "-H", "Host: a.example.com", f"{url}/status/204")
    eventually(lambda: not mesh.succeeds(*call))
