"""What the container images of the samples mean: globs over image names, and the functions they lead to.

An entry is "module:function", or a mapping with `function`, `env` (as the image itself sets it), `args`, and
`commands`: programs that a container's `command` or `kubectl exec` may name, and what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WAIT = "mizzen.samples.sleep:main"
_CLIENT: Mapping[str, Any] = {
    "function": _WAIT,
    "commands": {"sleep": _WAIT, "/bin/sleep": _WAIT, "curl": "mizzen.samples.curl:main"},
}
_REVIEWS = "mizzen.samples.bookinfo.reviews:main"
_STARS = {"v1": {}, "v2": {"STAR_COLOR": "black"}, "v3": {"STAR_COLOR": "red"}}
_HTTPBIN = "mizzen.samples.httpbin:main"
_FIRST_HTTPBIN = {"function": _HTTPBIN, "env": {"PORT": "80", "HTTPBIN_VALUES": "plain"}}


def _table() -> Iterator[tuple[str, Any]]:
    yield from _bookinfo()
    for version in ("v1", "v2"):
        image = {"function": "mizzen.samples.helloworld:main", "env": {"SERVICE_VERSION": version}}
        yield f"*/examples-helloworld-{version}:*", image
        yield f"mizzen/helloworld-{version}:*", image
    for name in ("*/go-httpbin:*", "mizzen/httpbin:*"):
        yield name, _HTTPBIN
    for name in ("*/kennethreitz/httpbin:*", "*/kong/httpbin:*"):
        yield name, _FIRST_HTTPBIN
    for name in ("*/curlimages/curl:*", "*/pstauffer/curl:*", "mizzen/curl:*", "mizzen/sleep:*"):
        yield name, _CLIENT
    for name in ("*/tcp-echo-server:*", "mizzen/tcp-echo:*"):
        yield name, "mizzen.samples.tcp_echo:main"
    yield "mizzen/echo:*", "mizzen.samples.echo:main"
    yield "*/ext-authz:*", "mizzen.samples.ext_authz:main"


def _bookinfo() -> Iterator[tuple[str, Any]]:
    """Any registry, any tag: Istio's names `…/examples-bookinfo-reviews-v2:1.20.3`, and ours."""
    programs = {"productpage-v1": "productpage", "details-v1": "details", "ratings-v1": "ratings"}
    for name, program in programs.items():
        yield from _named(name, f"mizzen.samples.bookinfo.{program}:main", {})
    for version, stars in _STARS.items():
        enabled = {"ENABLE_RATINGS": "true"} if stars else {}
        yield from _named(f"reviews-{version}", _REVIEWS, {"SERVICE_VERSION": version, **enabled, **stars})
    yield from _named("details-v2", "mizzen.samples.bookinfo.details:main", {"ENABLE_EXTERNAL_BOOK_SERVICE": "true"})
    for version in ("v2", "v-faulty", "v-delayed", "v-unavailable", "v-unhealthy"):
        yield from _named(f"ratings-{version}", "mizzen.samples.bookinfo.ratings:main", {"SERVICE_VERSION": version})


def _named(name: str, function: str, env: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    image: dict[str, Any] = {"function": function, "env": dict(env)}
    yield f"*/examples-bookinfo-{name}:*", image
    yield f"mizzen/bookinfo-{name}:*", image


IMAGES: Mapping[str, Any] = dict(_table())
