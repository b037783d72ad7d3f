"""A real Envoy for process tests, and the certificates it needs."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mizzen.envoy.descriptors import envoy_path


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


SIGNS = x509.KeyUsage(
    False, False, False, False, False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
)


class Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
        self.identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.root = self._signed(self.name, self.key, x509.BasicConstraints(True, None), None)

    def _signed(self, subject, key, constraints, names) -> bytes:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=2))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(constraints, True)
            # What Python 3.13 asks of everybody's certificates (RFC 5280).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self.identifier), False)
        )
        if constraints.ca:
            certificate = certificate.add_extension(SIGNS, True)
        if names is not None:
            certificate = certificate.add_extension(x509.SubjectAlternativeName(names), True)
        return certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: x509.GeneralName) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self._signed(x509.Name([]), key, x509.BasicConstraints(False, None), [name])
        return pem(key), chain + self.root


NODE = "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local"


def bootstrap(
    port: int,
    tls: dict[str, object],
    node: str = NODE,
    api_type: str = "DELTA_GRPC",
    sds: Path | None = None,
) -> dict[str, object]:
    """`sds`: the socket where an agent would answer for secrets."""
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "node": {"id": node, "cluster": "web.default"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": retry}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                },
                *([_sds_cluster(sds, http2)] if sds else []),
            ]
        },
    }


def _sds_cluster(socket: Path, http2: dict[str, object]) -> dict[str, object]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": "sds-grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def upstream_tls(key: bytes, chain: bytes, root: bytes) -> dict[str, object]:
    """Mutual TLS with these PEMs, as the agent's bootstrap has it by SDS."""
    return {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "istiod.istio-system.svc",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {"certificate_chain": {"inline_string": chain.decode()}, "private_key": {"inline_string": key.decode()}}
            ],
            "validation_context": {"trusted_ca": {"inline_string": root.decode()}},
        },
    }


class Envoy:
    """A running Envoy and its admin interface."""

    def __init__(self, admin: Path) -> None:
        self._admin = admin

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self._admin.read_text()}{path}", timeout=5) as answer:
            return answer.read().decode()

    async def port_of(self, name: str) -> int:
        listeners = json.loads(await asyncio.to_thread(self.get, "/listeners?format=json"))["listener_statuses"]
        return next(one["local_address"]["socket_address"]["port_value"] for one in listeners if one["name"] == name)

    async def status(self, port: int) -> int:
        def call() -> int:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        return await asyncio.to_thread(call)


@asynccontextmanager
async def envoy(folder: Path, config: dict[str, object], *options: str) -> AsyncIterator[Envoy]:
    (folder / "bootstrap.json").write_text(json.dumps(config))
    arguments = ["-c", "bootstrap.json", "--admin-address-path", "admin", "--concurrency", "1", "-l", "warn"]
    arguments += ["--disable-hot-restart", "--log-path", "envoy.log", *options]
    process = await asyncio.create_subprocess_exec(str(envoy_path()), *arguments, cwd=folder)
    try:
        await until(lambda: (folder / "admin").exists() and (folder / "admin").read_text() != "")
        yield Envoy(folder / "admin")
    finally:
        process.kill()
        await process.wait()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is somebody else's state
            await asyncio.sleep(0.01)
