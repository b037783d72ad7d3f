"""A real Envoy behind our own discovery service, whose policies tests change, and a client that says anything to it.

Ports: `http` (gateway, plain), `https` (mesh TLS, certificate optional), `tcp` and `tls` (the same for bytes).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cryptography import x509

from envoys import Authority, Envoy, bootstrap, envoy, until, upstream_tls
from mizzen.ads.server import AdsServer, Serving, Stream
from mizzen.ads.store import Store
from mizzen.ads.tls import mutual_tls
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import HTTPMatchRequest, StringMatch
from mizzen.envoy.messages import (
    Cluster,
    DownstreamTlsContext,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Message,
    NetworkFilter,
    RouteConfiguration,
    serialized,
    typed,
)
from mizzen.envoy.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, Resource, Resources
from mizzen.scope.model import Guards
from mizzen.xds import http_filters
from mizzen.xds.filter_chains import drain_marked, tls_inspector
from mizzen.xds.http_connection_manager import gateway_http
from mizzen.xds.matchers import route_match
from mizzen.xds.network_filters import GUARDS
from mizzen.xds.tcp_proxy import to_cluster
from mizzen.xds.translate import extensions

IDENTITY = "spiffe://cluster.local/ns/default/sa/web"
ROUTE = "http.all"


class Ports(NamedTuple):
    http: int
    https: int
    tcp: int
    tls: int
    app: int
    """Behind the TCP ports: answers 200 to anyone."""
    other: int
    """For the test: requests below /other/ go there, and cluster `outbound|PORT||other` leads to it."""

    @classmethod
    def free(cls) -> Ports:
        """Below those that the kernel gives to whoever connects somewhere."""
        return cls(*(next(port for port in iter(_random_port, 0) if _is_free(port)) for _ in range(6)))


def _random_port() -> int:
    return random.randrange(10_000, 32_000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


class Answer(NamedTuple):
    status: int
    """0: the connection was closed without an answer."""
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Fleet:
    """One proxy that holds what it is told."""

    def __init__(self, target: Resources) -> None:
        self.target = target
        self.stream: Stream | None = None

    async def join(self, stream: Stream) -> None:
        self.stream = stream
        stream.publish((self.target,))

    def acknowledged(self, stream: Stream) -> None: ...

    def leave(self, stream: Stream) -> None: ...


class Guarded:
    """`enforce` returns when the proxy has acknowledged."""

    def __init__(self, fleet: Fleet, ports: Ports, proxy: Envoy, authority: Authority) -> None:
        self._fleet = fleet
        self.ports = ports
        self.proxy = proxy
        self._authority = authority
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._open: dict[tuple[object, ...], socket.socket] = {}

    async def enforce(self, guards: Guards, refused: bool = False, drained: str = "") -> list[str]:
        """What the proxy says against it. `drained`: connections that began under another mark are to end."""
        stream = self._fleet.stream
        assert stream is not None
        listeners = _marked(self._fleet.target[LISTENER], drained) if drained else self._fleet.target[LISTENER]
        self._fleet.target = {**self._fleet.target, EXTENSION: extensions(guards), LISTENER: listeners}
        stream.publish((self._fleet.target,))
        await until(lambda: stream.session.settled)
        await asyncio.sleep(0.004)  # the acknowledgement comes before the worker threads have it
        found = [refusal.message for refusal in stream.session.refused.values()]
        assert refused or not found, found
        return found

    def stats(self, prefix: str) -> dict[str, int]:
        lines = self.proxy.get(f"/stats?filter={prefix}").splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines) if value.isdigit()}

    # The client

    def connect(
        self, port: int, peer: str = "", source: str = "127.0.0.1", to: str = "127.0.0.1", sni: str = ""
    ) -> socket.socket:
        raw = socket.create_connection((to, port), timeout=5, source_address=(source, 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if port in (self.ports.https, self.ports.tls):
            return self._context(peer).wrap_socket(raw, server_hostname=sni or None)
        return raw

    def ask(self, port: int, request: bytes, **how: str) -> Answer:
        """On a connection that is kept for the next request of its kind."""
        key = (port, *sorted(how.items()))
        kept = self._open.pop(key, None)
        if kept is not None:
            with contextlib.suppress(OSError):
                answer = exchange(kept, request)
                if answer.status:
                    self._keep(key, kept, answer)
                    return answer
            kept.close()
        fresh = self.connect(port, **how)
        try:
            answer = exchange(fresh, request)
        except OSError:
            answer = Answer(0)
        self._keep(key, fresh, answer)
        return answer

    def _keep(self, key: tuple[object, ...], connection: socket.socket, answer: Answer) -> None:
        if answer.status and answer.headers.get("connection") != "close" and key[0] in self.ports[:2]:
            self._open[key] = connection
        else:
            connection.close()

    def get(self, path: str, *headers: str, method: str = "GET", host: str = "a.com", **how: Any) -> Answer:
        port = how.pop("port", self.ports.http)
        return self.ask(port, said(method, path, host, headers), **how)

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _context(self, peer: str) -> ssl.SSLContext:
        if peer not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if peer:
                _present(context, *self._authority.issue(x509.UniformResourceIdentifier(peer)))
            self._contexts[peer] = context
        return self._contexts[peer]


def _present(context: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(key + chain)
    context.load_cert_chain(file.name)
    Path(file.name).unlink()


def said(method: str, path: str, host: str, headers: Iterable[str] = ()) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def exchange(connection: socket.socket, request: bytes) -> Answer:
    """One request and its answer. A closed connection is status 0."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return Answer(0)
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Answer(int(first.split()[1]), headers, body)


def _listener(name: str, port: int, filters: list[Message], tls: Message | None = None) -> Resource:
    socket_of_tls = typed("envoy.transport_sockets.tls", tls) if tls is not None else None
    chain = FilterChain(filters=filters, transport_socket=socket_of_tls)
    address = {"socket_address": {"address": "0.0.0.0", "port_value": port}}
    inspectors = [tls_inspector()] if tls is not None else []
    message = Listener(name=name, address=address, filter_chains=[chain], listener_filters=inspectors)
    return Resource.of(name, serialized(message))


def _marked(listeners: Mapping[str, Resource], mark: str) -> dict[str, Resource]:
    """All but the application's own."""
    found = {}
    for name, resource in listeners.items():
        listener = Listener.FromString(resource.body)
        if name != "app":
            listener.filter_chains[0].metadata.CopyFrom(FilterChain(**drain_marked(mark)).metadata)  # type: ignore[attr-defined]
        found[name] = Resource.of(name, serialized(listener))
    return found


def _answers(other: int) -> RouteConfiguration:  # type: ignore[valid-type]
    """Everyone gets 200, and is told what arrived; 202 means that a token said what the route asks for."""
    echoed = (
        ("path", ":path"),
        ("host", ":authority"),
        ("claim", "x-claim"),
        ("token", "authorization"),
        ("payload", "x-payload"),
    )
    told = [
        {
            "header": {"key": f"x-seen-{name}", "value": f"%REQ({header})%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for name, header in echoed
    ]
    claimed = {
        "@request.auth.claims.role": StringMatch(exact="admin"),
        "@request.auth.claims[groups]": StringMatch(prefix="a"),
    }
    by_claims = HTTPMatchRequest(uri=StringMatch(prefix="/by-claims"), headers=claimed)
    routes = [
        {"match": route_match(by_claims), "direct_response": {"status": 202}},
        {"match": {"prefix": "/other/"}, "route": {"cluster": f"outbound|{other}||other"}},
        {"match": {"prefix": ""}, "direct_response": {"status": 200}},
    ]
    host = {"name": "all", "domains": ["*"], "routes": routes, "response_headers_to_add": told}
    return RouteConfiguration(name=ROUTE, virtual_hosts=[host])


def _cluster(name: str, port: int, *, http2: bool = False) -> Resource:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = Cluster(
        name=name,
        type="STATIC",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        **({"http2_protocol_options": {}} if http2 else {}),
    )
    return Resource.of(name, serialized(cluster))


def world(ports: Ports, mesh: MeshConfig, authority: Authority, guards: Guards) -> Resources:
    key, chain = authority.issue(x509.UniformResourceIdentifier(IDENTITY))
    certificate = {
        "certificate_chain": {"inline_string": chain.decode()},
        "private_key": {"inline_string": key.decode()},
    }
    tls = DownstreamTlsContext(
        require_client_certificate={"value": False},
        common_tls_context={
            "tls_certificates": [certificate],
            "validation_context": {"trusted_ca": {"inline_string": authority.root.decode()}},
        },
    )
    clusters = (
        _cluster("app", ports.app),
        _cluster(f"outbound|{ports.other}||other", ports.other),
        _cluster(f"outbound|{ports.other}||grpc", ports.other, http2=True),
    )
    http, tcp = gateway_http("in", ROUTE, mesh), to_cluster("app", mesh)
    plain = HttpConnectionManager(
        stat_prefix="app", route_config=_answers(ports.other), http_filters=[http_filters.outbound(mesh)[-1]]
    )
    listeners = (
        _listener("http", ports.http, [http]),
        _listener("https", ports.https, [http], tls),
        _listener("tcp", ports.tcp, [*GUARDS, tcp]),
        _listener("tls", ports.tls, [*GUARDS, tcp], tls),
        _listener("app", ports.app, [NetworkFilter(**typed("envoy.filters.network.http_connection_manager", plain))]),
    )
    return {
        CLUSTER: {one.name: one for one in clusters},
        LISTENER: {one.name: one for one in listeners},
        ROUTES: {ROUTE: Resource.of(ROUTE, serialized(_answers(ports.other)))},
        EXTENSION: extensions(guards),
    }


@asynccontextmanager
async def guarded(folder: Path, mesh: MeshConfig, guards: Guards = Guards(), *options: str) -> AsyncIterator[Guarded]:  # noqa: B008
    """Enforcing from the first moment; with options of Envoy's command line."""
    authority, ports = Authority(), Ports.free()
    key, chain = authority.issue(x509.DNSName("istiod.istio-system.svc"))
    fleet = Fleet(world(ports, mesh, authority, guards))
    shown = (key, chain, authority.root)
    server = AdsServer(fleet, Store(), Serving("127.0.0.1", 0, mutual_tls(lambda: shown)))
    await server.start()
    own = authority.issue(x509.UniformResourceIdentifier(IDENTITY))
    try:
        async with envoy(folder, _bootstrap(server.port, upstream_tls(*own, authority.root)), *options) as proxy:
            found = Guarded(fleet, ports, proxy, authority)
            await until(lambda: fleet.stream is not None and LISTENER in fleet.stream.session.types)
            await until(lambda: fleet.stream is not None and fleet.stream.session.settled)
            await until(lambda: all(_listening(port) for port in ports[:5]))
            try:
                yield found
            finally:
                found.close()
    finally:
        await server.stop(0)


def _bootstrap(port: int, tls: dict[str, object]) -> dict[str, object]:
    layer = {"name": "static", "static_layer": {"re2.max_program_size.error_level": "32768"}}
    return {**bootstrap(port, tls), "layered_runtime": {"layers": [layer]}}


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
