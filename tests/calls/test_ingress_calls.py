"""Where calls land by Ingress paths: the table of Kubernetes' own documentation, and what Istio adds.

https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mizzen.explain.simulate import NO_ROUTE, NO_VIRTUAL_HOST, Call, place
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import objects, scopes, services, world

PROXY = Proxy(namespace="istio-system", name="in", labels={"istio": "ingressgateway"})
NUMBERS = range(8000, 8003)


def landed(host: str, path: str, *rules: tuple[str, str, str]) -> int:
    """The number of the rule (host, type and path) whose backend answers; -1 for 404."""
    entries = [
        f"- {{host: '{name}', http: {{paths: [{{path: '{own}', pathType: {kind}, "
        f"backend: {{service: {{name: web, port: {{number: {number}}}}}}}}}]}}}}"
        for number, (name, kind, own) in zip(NUMBERS, rules, strict=False)
    ]
    ours = "{name: web, annotations: {kubernetes.io/ingress.class: istio}}"
    head = f"kind: Ingress\nmetadata: {ours}\nspec:\n  rules:\n  "
    web = services({"web.default": {number: f"http-{number}" for number in NUMBERS}})
    snapshot = Snapshot.of([*web, *objects(head + "\n  ".join(entries))])
    told = world(scopes(snapshot, PROXY, gateway=True), snapshot, PROXY.namespace)
    landing = place(Call(80, host=host, path=path), told)
    if landing.error:
        assert landing.error in (NO_ROUTE, NO_VIRTUAL_HOST)
        return -1
    return int(landing.cluster.split("|")[1]) - NUMBERS[0]


@pytest.mark.parametrize(
    ("kind", "paths", "asked", "number"),
    [
        ("Prefix", ["/"], "/any/path", 0),
        ("Exact", ["/foo"], "/foo", 0),
        ("Exact", ["/foo"], "/foo?bar=1", 0),
        ("Exact", ["/foo"], "/bar", -1),
        ("Exact", ["/foo"], "/foo/", -1),
        ("Exact", ["/foo/"], "/foo", -1),
        ("Prefix", ["/foo"], "/foo", 0),
        ("Prefix", ["/foo"], "/foo?bar=1", 0),
        ("Prefix", ["/foo"], "/foo/", 0),
        ("Prefix", ["/foo"], "/foobar", -1),
        ("Prefix", ["/foo/"], "/foo", 0),
        ("Prefix", ["/foo/"], "/foo/", 0),
        ("Prefix", ["/aaa/bb"], "/aaa/bbb", -1),
        ("Prefix", ["/aaa/bbb"], "/aaa/bbb", 0),
        ("Prefix", ["/aaa/bbb/"], "/aaa/bbb", 0),
        ("Prefix", ["/aaa/bbb"], "/aaa/bbb/", 0),
        ("Prefix", ["/aaa/bbb"], "/aaa/bbb/ccc", 0),
        ("Prefix", ["/aaa/bbb"], "/aaa/bbbxyz", -1),
        ("Prefix", ["/", "/aaa"], "/aaa/ccc", 1),
        ("Prefix", ["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", 2),
        ("Prefix", ["/", "/aaa", "/aaa/bbb"], "/ccc", 0),
        ("Prefix", ["/aaa"], "/ccc", -1),
        ("ImplementationSpecific", ["/foo"], "/foo", 0),
        ("ImplementationSpecific", ["/foo"], "/foo/bar", -1),
        ("ImplementationSpecific", ["/foo/*"], "/foo/bar", 0),
        ("ImplementationSpecific", ["/foo.*"], "/foobar", -1),
        ("ImplementationSpecific", ["/*", "/foo"], "/foo", 1),
        ("ImplementationSpecific", ["*"], "/what/ever", 0),
    ],
)
def test_paths(kind: str, paths: Sequence[str], asked: str, number: int) -> None:
    assert landed("a.org", asked, *(("a.org", kind, path) for path in paths)) == number


def test_of_equally_long_paths_the_exact_one_is_asked_first() -> None:
    rules = ("a.org", "Prefix", "/foo"), ("a.org", "Exact", "/foo")
    assert (landed("a.org", "/foo", *rules), landed("a.org", "/foo/bar", *rules)) == (1, 0)


@pytest.mark.parametrize(
    ("host", "number"), [("a.foo.org", 0), ("b.foo.org:8080", 1), ("foo.org", 2), ("localhost", 2), ("A.FOO.ORG", 0)]
)
def test_hosts(host: str, number: int) -> None:
    rules = ("a.foo.org", "Prefix", "/"), ("*.foo.org", "Prefix", "/"), ("", "Prefix", "/")
    assert landed(host, "/x", *rules) == number


def test_a_short_name_is_no_name_of_a_service() -> None:
    assert landed("localhost", "/", ("localhost", "Prefix", "/")) == 0
    assert landed("web.default.svc.cluster.local", "/", ("localhost", "Prefix", "/")) == -1
