"""Paths that are about the server and not about objects: version, health, discovery, OpenAPI, token keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from mizzen.embedded.apiserver import discovery, errors, tokens
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.wire import Request, Response, encode, reply
from mizzen.kube.api import JSON

OPENAPI_V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""An @ in place of the first dot of `v2.v1.0`, as Kubernetes once wrote it, breaks Go's MIME parser."""

_YEAR = 365 * 24 * 3600


@dataclass(slots=True)
class Information:
    registry: Registry
    issuer: tokens.TokenIssuer
    address: str = "127.0.0.1"
    _documents: dict[tuple[int, str], bytes] = field(default_factory=dict)

    def answer(self, request: Request) -> Response | None:
        """None if the path is not one of these."""
        path = request.path.rstrip("/") or "/"
        fixed = self._fixed().get(path)
        if fixed is None and path.split("/")[1] in ("healthz", "livez", "readyz"):
            fixed = self._health
        if fixed is None and path.startswith("/openapi/v3/"):
            return self._read_only(request, lambda: self._openapi_v3(request, path))
        if fixed is None:
            return self._group_document(request, path)
        return self._read_only(request, lambda: fixed(request))

    def _read_only(self, request: Request, make: Callable[[], Response]) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        return make()

    def _fixed(self) -> dict[str, Callable[[Request], Response]]:
        return {
            "/": lambda _: reply(
                {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}
            ),
            "/version": lambda _: reply(discovery.VERSION),
            "/api": lambda request: self._roots(request, core=True),
            "/apis": lambda request: self._roots(request, core=False),
            "/openapi/v2": lambda _: Response(b"", content_type=OPENAPI_V2_TYPE),
            "/openapi/v3": lambda _: self._openapi_index(),
            "/openid/v1/jwks": lambda _: reply(self.issuer.jwks(), content_type="application/jwk-set+json"),
            "/.well-known/openid-configuration": lambda _: reply(tokens.openid_configuration()),
        }

    def _health(self, request: Request) -> Response:
        return Response(b"ok", content_type="text/plain; charset=utf-8")

    def _roots(self, request: Request, core: bool) -> Response:
        version = discovery.wanted_aggregation(request.headers.get("accept", ""))
        if version is None:
            plain = discovery.core_versions(self.address) if core else discovery.group_list(self.registry)
            return reply(plain)
        body = self._remember(f"{version}{core}", lambda: discovery.aggregated(self.registry, version, core))
        tag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
        headers = {"ETag": tag, "Vary": "Accept"}
        if request.headers.get("if-none-match") == tag:
            return Response(b"", 304, discovery.AGGREGATED[version], headers)
        return Response(body, 200, discovery.AGGREGATED[version], headers)

    def _group_document(self, request: Request, path: str) -> Response | None:
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) == 2:
            return self._read_only(request, lambda: self._resources("", parts[1]))
        if parts[0] != "apis" or len(parts) not in (2, 3):
            return None
        if len(parts) == 3:
            return self._read_only(request, lambda: self._resources(parts[1], parts[2]))
        versions = self.registry.versions().get(parts[1])
        if not versions or not parts[1]:
            raise errors.no_such_path()
        document = discovery.group_document(parts[1], versions)
        return self._read_only(request, lambda: reply({"kind": "APIGroup", "apiVersion": "v1", **document}))

    def _resources(self, group: str, version: str) -> Response:
        if not self.registry.of(group, version):
            raise errors.no_such_path()
        return reply(discovery.resource_list(self.registry, group, version))

    def _openapi_index(self) -> Response:
        from mizzen.embedded.apiserver import schema

        return reply(schema.openapi_v3_index(self._served()))

    def _openapi_v3(self, request: Request, path: str) -> Response:
        """Clients that ask by the hash of the index keep the answer, and need not ask again."""
        from mizzen.embedded.apiserver import schema

        group_version = path.removeprefix("/openapi/v3/").partition("/")[2]
        types = self._served().get(group_version)
        if not types:
            raise errors.no_such_path()
        known = schema.content_hash(types)
        headers = {"ETag": f'"{known}"', "Vary": "Accept"}
        if request.parameter("hash") == known:
            headers["Cache-Control"] = f"public, max-age={_YEAR}, immutable"
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(b"", 304, headers=headers)
        body = self._remember(path, lambda: schema.openapi_v3(group_version, types))
        return Response(body, headers=headers)

    def _served(self) -> dict[str, list[ResourceType]]:
        return {
            f"{group}/{version}" if group else version: self.registry.of(group, version)
            for group, versions in self.registry.versions().items()
            for version in versions
        }

    def _remember(self, name: str, make: Callable[[], JSON]) -> bytes:
        """One document per state of the registry: CRDs come and go seldom, clients ask often."""
        key = (self.registry.generation, name)
        if key not in self._documents:
            self._documents = {each: body for each, body in self._documents.items() if each[0] == key[0]}
            self._documents[key] = encode(make())
        return self._documents[key]
