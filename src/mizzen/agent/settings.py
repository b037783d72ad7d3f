"""What the agent is told: its arguments, its environment and the files of the Pod's downward API, as one value.

The names are Istio's, because the injection templates set them
(https://istio.io/latest/docs/reference/commands/pilot-agent/#envvars).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import msgspec

from mizzen.api.base import Duration
from mizzen.ca.authority import DEFAULT_KEY, KeyKind

ProxyType = Literal["sidecar", "router"]

XDS_PORT = 15011
"""istiod's mutual-TLS port: `docs/decisions/0001`."""
CA_PORT = 15012
_ISTIOD = f"istiod.istio-system.svc:{CA_PORT}"
STATUS_PORT = 15020
ADMIN_PORT = 15000
CAPTURE_MARK = 0x539
"""1337, set as a packet mark where the proxy cannot have a uid of its own."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where an injected Pod keeps things; tests move them."""

    root_certificate: str = "/var/run/secrets/istio/root-cert.pem"
    token: str = "/var/run/secrets/tokens/istio-token"  # noqa: S105 - a file's name
    sds_socket: str = "/var/run/secrets/workload-spiffe-uds/socket"
    relay_socket: str = "/var/run/secrets/workload-spiffe-uds/relay"
    labels: str = "/etc/istio/pod/labels"
    annotations: str = "/etc/istio/pod/annotations"
    bootstrap: str = "/etc/istio/proxy/envoy-rev.json"
    istiod_roots: str = "/etc/istio/proxy/istiod-roots.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the bootstrap and the agent's own services depend on."""

    proxy_type: ProxyType
    pod: str
    namespace: str
    address: str
    """The Pod's first."""
    service_account: str
    discovery_address: str
    """`HOST:PORT` of istiod, from proxyConfig."""
    ca_address: str
    """`HOST:PORT` of who signs certificates: istiod, or whoever speaks its `CreateCertificate`."""
    ipv6_addresses: tuple[str, ...] = ()
    """Those of the Pod that others can call."""
    domain: str = "cluster.local"
    """The cluster's DNS domain."""
    trust_domain: str = "cluster.local"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """`ISTIO_META_*` and `ISTIO_METAJSON_*`, without their prefix."""
    proxy_config: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    cpu_limit: str = ""
    """`ISTIO_CPU_LIMIT`: whole CPUs, rounded up by the downward API."""
    app_probes: Mapping[str, Any] = field(default_factory=dict)
    """`ISTIO_KUBE_APP_PROBERS`: path on port 15020 to the probe that the Pod asked for."""
    app_metrics: Mapping[str, str] = field(default_factory=dict)
    """`ISTIO_PROMETHEUS_ANNOTATIONS`: scrape, path, port of the app's own metrics."""
    certificate_validity: timedelta = timedelta(hours=24)
    key: KeyKind = DEFAULT_KEY
    external_sds: bool = False
    """Somebody else serves the Pod's secrets (SPIRE): Envoy asks there, and the agent asks nobody for a certificate."""
    mark_proxy_traffic: bool = False
    """`MIZZEN_CAPTURE=mark`: the proxy's traffic is exempt from capture by mark, not by uid."""
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    paths: Paths = Paths()

    @property
    def node_id(self) -> str:
        return f"{self.proxy_type}~{self.address}~{self.pod}.{self.namespace}~{self.namespace}.svc.{self.domain}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.address, *self.ipv6_addresses)))

    @property
    def identity(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def istiod(self) -> str:
        """The name that istiod proves, without a port."""
        return self.discovery_address.rpartition(":")[0]

    @property
    def istiod_host(self) -> str:
        return self._absolute(self.istiod)

    @property
    def istiod_port(self) -> int:
        """Of discovery. Addresses name Istio's one port for all; here 15012 signs, and 15011 is where it leads to."""
        port = int(self.discovery_address.rpartition(":")[2])
        return XDS_PORT if port == CA_PORT else port

    @property
    def ca(self) -> str:
        """The name that the certificate authority proves, without a port."""
        return self.ca_address.rpartition(":")[0]

    @property
    def ca_target(self) -> str:
        return f"{self._absolute(self.ca)}:{self.ca_address.rpartition(':')[2]}"

    def _absolute(self, name: str) -> str:
        """A Service's name is made absolute, so that a resolver need not search for it first."""
        return f"{name}.{self.domain}." if name.endswith(".svc") else name

    @property
    def concurrency(self) -> int | None:
        """Envoy's worker threads; None leaves it to Envoy (one per CPU). proxyConfig wins over the CPU limit."""
        configured = self.proxy_config.get("concurrency")
        if configured is not None:
            return int(configured) or None
        return int(self.cpu_limit) if self.cpu_limit.isdigit() and int(self.cpu_limit) > 0 else None

    def duration(self, name: str, default: str) -> timedelta:
        """A duration of proxyConfig. Raises ValueError where it is not one."""
        return Duration.parse(str(self.proxy_config.get(name, default)))


class SettingsError(ValueError):
    """The environment lacks something the agent cannot do without, or holds something unreadable."""


def read_settings(
    proxy_type: ProxyType,
    environment: Mapping[str, str],
    *,
    domain: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    paths: Paths | None = None,
    ipv6_addresses: tuple[str, ...] = (),
    external_sds: bool = False,
    log_level: str = "warning",
    component_log_level: str = "misc:error",
) -> Settings:
    """Settings from an injected container's environment. Raises SettingsError.

    `domain` is what Istio's templates pass: `NAMESPACE.svc.cluster.local`.
    """
    proxy_config = _document(environment, "PROXY_CONFIG")
    discovery = _address("discoveryAddress of PROXY_CONFIG", proxy_config.get("discoveryAddress") or _ISTIOD)
    return Settings(
        proxy_type=proxy_type,
        pod=_required(environment, "POD_NAME"),
        namespace=_required(environment, "POD_NAMESPACE"),
        address=_required(environment, "INSTANCE_IP"),
        service_account=_required(environment, "SERVICE_ACCOUNT"),
        ipv6_addresses=ipv6_addresses,
        discovery_address=discovery,
        ca_address=_address("CA_ADDR", environment.get("CA_ADDR") or discovery),
        domain=domain.partition(".svc.")[2] or "cluster.local",
        trust_domain=environment.get("TRUST_DOMAIN", "cluster.local"),
        metadata=_node_metadata(environment),
        proxy_config=proxy_config,
        labels=labels or {},
        annotations=annotations or {},
        cpu_limit=environment.get("ISTIO_CPU_LIMIT", ""),
        app_probes=_document(environment, "ISTIO_KUBE_APP_PROBERS"),
        app_metrics=_document(environment, "ISTIO_PROMETHEUS_ANNOTATIONS"),
        certificate_validity=_duration(environment, "SECRET_TTL", "24h"),
        key=_key_kind(environment),
        external_sds=external_sds,
        mark_proxy_traffic=environment.get("MIZZEN_CAPTURE") == "mark",
        log_level=log_level,
        component_log_level=component_log_level,
        paths=paths or Paths(),
    )


def downward_pairs(text: str) -> dict[str, str]:
    """Reads the downward API's `key="value"` lines, whose values are quoted as Go quotes strings."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: _unquoted(value) for key, _, value in pairs}


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value))
    except ValueError:
        return value.strip('"')


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set: the container was not written by the injector")
    return value


def _address(name: str, value: Any) -> str:
    host, _, port = str(value).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(f"{name} is {value!r}, and not HOST:PORT as in {_ISTIOD}")
    return str(value)


def _document(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(environment.get(name) or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SettingsError(f"{name} is not a JSON object: {error}") from error


def _duration(environment: Mapping[str, str], name: str, default: str) -> timedelta:
    try:
        return Duration.parse(environment.get(name, default))
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error


def _key_kind(environment: Mapping[str, str]) -> KeyKind:
    """Elliptic unless a size of RSA keys is asked for. Istio's own default is RSA."""
    algorithm, bits = environment.get("ECC_SIGNATURE_ALGORITHM", ""), environment.get("WORKLOAD_RSA_KEY_SIZE", "")
    if algorithm not in ("", "ECDSA"):
        raise SettingsError(f"ECC_SIGNATURE_ALGORITHM: {algorithm!r} is not served; there is ECDSA")
    try:
        if bits and not algorithm:
            return KeyKind(rsa_bits=int(bits))
        return KeyKind(environment.get("ECC_CURVE") or "P256")
    except ValueError as error:
        raise SettingsError(f"{'WORKLOAD_RSA_KEY_SIZE' if bits and not algorithm else 'ECC_CURVE'}: {error}") from error


def _node_metadata(environment: Mapping[str, str]) -> dict[str, Any]:
    plain = {name[len("ISTIO_META_") :]: value for name, value in environment.items() if name.startswith("ISTIO_META_")}
    prefix = "ISTIO_METAJSON_"
    documents = {name[len(prefix) :]: _document(environment, name) for name in environment if name.startswith(prefix)}
    return plain | documents
