"""Gateway."""

from __future__ import annotations

from collections import Counter

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.names import is_address, is_label, port, server_host_problem
from mizzen.api.networking import Gateway, Port, Server, ServerTLSSettings

PROTOCOLS = frozenset(
    {"http", "http2", "https", "http_proxy", "grpc", "grpc-web", "tcp", "tls", "mongo", "mysql", "redis", "udp"}
)
HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
TLS = frozenset({"https", "tls"})
_UNIX = "unix://"
_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
CIPHERS = frozenset(
    {
        *(
            f"ECDHE-{kind}-{cipher}"
            for kind in ("ECDSA", "RSA")
            for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "CHACHA20-POLY1305")
        ),
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    }
)


def gateway(obj: Gateway) -> Findings:
    if not is_label(obj.name):
        yield Finding("metadata.name", f"{obj.name!r} is not a DNS label, as the name of a Gateway must be")
    if not obj.spec.servers:
        yield Finding("spec.servers", "a Gateway needs at least one server")
    for index, server in enumerate(obj.spec.servers):
        yield from _server(f"spec.servers[{index}]", server)
    yield from _repeated_names(obj.spec.servers)


def _repeated_names(servers: tuple[Server, ...]) -> Findings:
    names = Counter(server.port.name for server in servers)
    seen: set[str] = set()
    for index, server in enumerate(servers):
        if names[server.port.name] > 1 and server.port.name in seen:
            path = f"spec.servers[{index}].port.name"
            yield Finding(path, f"port names in servers must be unique, and {server.port.name!r} stands twice")
        seen.add(server.port.name)


def _server(path: str, server: Server) -> Findings:
    if not server.hosts:
        yield Finding(f"{path}.hosts", 'a server needs at least one host; "*" serves all of them')
    for index, host in enumerate(server.hosts):
        if problem := server_host_problem(host):
            yield Finding(f"{path}.hosts[{index}]", problem)
    yield from _port(f"{path}.port", server.port, server.bind)
    yield from _bind(path, server)
    if server.tls is not None:
        yield from _tls(f"{path}.tls", server.tls)
    yield from _tls_fits_protocol(path, server)


def _port(path: str, given: Port, bind: str) -> Findings:
    if given.protocol.lower() not in PROTOCOLS:
        yield Finding(
            f"{path}.protocol",
            f"{given.protocol!r} is not a protocol; write HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS or MONGO",
        )
    if given.number or not bind.startswith(_UNIX):
        yield from port(f"{path}.number", given.number)
    if given.target_port:
        yield Finding(f"{path}.targetPort", "targetPort has no effect in a Gateway; remove it")
    if not given.name:
        yield Finding(f"{path}.name", "the port of a server must have a name")


def _bind(path: str, server: Server) -> Findings:
    if server.bind.startswith(_UNIX):
        socket = server.bind.removeprefix(_UNIX)
        absolute = socket.startswith("@") or (socket.startswith("/") and not socket.endswith("/"))
        if not absolute:
            yield Finding(f"{path}.bind", f"{socket!r} is not an absolute path to a socket")
        if server.port.number:
            yield Finding(f"{path}.port.number", "the port of a UNIX socket must be 0")
    elif server.bind and not is_address(server.bind):
        yield Finding(f"{path}.bind", f"{server.bind!r} is not an IP address")


def _tls_fits_protocol(path: str, server: Server) -> Findings:
    protocol, tls = server.port.protocol.lower(), server.tls
    if protocol in TLS and tls is None:
        yield Finding(f"{path}.tls", f"a server of protocol {server.port.protocol} must have TLS settings (tls)")
    if tls is not None and tls.https_redirect and protocol not in HTTP:
        yield warning(f"{path}.tls.httpsRedirect", "httpsRedirect only has an effect on HTTP servers")
    if tls is None or protocol in TLS or protocol not in PROTOCOLS:
        return
    certificates = tls.ca_certificates or tls.private_key or tls.server_certificate
    if protocol not in HTTP:
        yield Finding(f"{path}.tls", f"a server of protocol {server.port.protocol} cannot have TLS settings; use TLS")
    elif tls.mode not in (None, "PASSTHROUGH") or certificates:
        yield Finding(f"{path}.tls", "a plain HTTP server cannot have TLS settings, except httpsRedirect; use HTTPS")


def _tls(path: str, tls: ServerTLSSettings) -> Findings:
    yield from _ciphers(path, tls)
    if tls.mode == "ISTIO_MUTUAL":
        yield from _mesh_certificate_alone(path, tls)
        return
    if tls.mode in (None, "PASSTHROUGH", "AUTO_PASSTHROUGH") and (_sources(tls) or _files(tls) or tls.ca_crl):
        yield warning(path, f"{tls.mode or 'PASSTHROUGH'} does not use certificates; those given here are ignored")
    sources = _sources(tls)
    if len(sources) > 1:
        yield Finding(path, f"the certificate must come from one place, not from {' and '.join(sources)}")
    if tls.mode in _TERMINATING and not (tls.credential_name or tls.credential_names):
        yield from _certificate_files(path, tls)
    if tls.ca_crl and tls.credential_name:
        yield Finding(f"{path}.caCrl", "with credentialName the revocation list belongs into the credential")
    if tls.ca_crl and tls.mode == "SIMPLE":
        yield Finding(f"{path}.caCrl", "SIMPLE asks for no client certificate that a revocation list could concern")


def _ciphers(path: str, tls: ServerTLSSettings) -> Findings:
    if tls.min_protocol_version in ("TLSV1_0", "TLSV1_1") and not tls.cipher_suites:
        yield warning(f"{path}.minProtocolVersion", "TLS below 1.2 needs cipherSuites: the default ones do not fit it")
    for index, name in enumerate(tls.cipher_suites):
        here = f"{path}.cipherSuites[{index}]"
        if name not in CIPHERS:
            yield warning(here, f"{name!r} is not a cipher suite that Envoy offers; it is ignored")
        elif name in tls.cipher_suites[:index]:
            yield warning(here, f"{name!r} stands twice; the second one is ignored")


def _mesh_certificate_alone(path: str, tls: ServerTLSSettings) -> Findings:
    given = {
        "serverCertificate": tls.server_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
        "tlsCertificates": tls.tls_certificates,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
    }
    for name, value in given.items():
        if value:
            yield Finding(f"{path}.{name}", f"ISTIO_MUTUAL uses the mesh's own certificates; remove {name}")


def _sources(tls: ServerTLSSettings) -> list[str]:
    places = {
        "serverCertificate/privateKey": bool(tls.server_certificate and tls.private_key),
        "credentialName": bool(tls.credential_name),
        "credentialNames": bool(tls.credential_names),
        "tlsCertificates": bool(tls.tls_certificates),
    }
    return [name for name, given in places.items() if given]


def _files(tls: ServerTLSSettings) -> bool:
    return bool(tls.server_certificate or tls.private_key or tls.ca_certificates)


def _certificate_files(path: str, tls: ServerTLSSettings) -> Findings:
    if tls.mode != "SIMPLE" and not tls.ca_certificates:
        yield Finding(f"{path}.caCertificates", f"{tls.mode} needs caCertificates, to check clients against")
    pairs = [(pair.server_certificate, pair.private_key) for pair in tls.tls_certificates]
    for certificate, key in pairs or [(tls.server_certificate, tls.private_key)]:
        if not certificate:
            yield Finding(
                path, f"{tls.mode} needs a server certificate: credentialName, or serverCertificate and privateKey"
            )
        if not key:
            yield Finding(path, f"{tls.mode} needs a private key: credentialName, or serverCertificate and privateKey")
