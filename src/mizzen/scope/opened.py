"""Which servers of which Gateway resources a gateway proxy opens, and where.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.api.base import Model, Problem
from mizzen.api.networking import Gateway
from mizzen.api.networking import Server as WantedServer
from mizzen.scope.hosts import for_namespace
from mizzen.scope.inbound import container_port
from mizzen.scope.model import Protocol
from mizzen.scope.problems import problem
from mizzen.scope.services import MeshService, word

ANY_ADDRESS = "0.0.0.0"


class Opened(Model):
    """One server of one Gateway resource, on the port where the proxy listens for it."""

    gateway: Gateway
    index: int
    server: WantedServer
    port: int

    @property
    def name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def bind(self) -> str:
        return self.server.bind or ANY_ADDRESS

    @property
    def protocol(self) -> Protocol:
        return word(self.server.port.protocol)

    @property
    def passthrough(self) -> bool:
        tls = self.server.tls
        return self.protocol.is_tls and tls is not None and tls.mode in (None, "PASSTHROUGH")

    @property
    def auto_passthrough(self) -> bool:
        tls = self.server.tls
        return self.protocol.is_tls and tls is not None and tls.mode == "AUTO_PASSTHROUGH"

    @property
    def dns_names(self) -> list[str]:
        """The hosts without the namespaces that may use them, in lower case; each once."""
        return list(dict.fromkeys(host.rpartition("/")[2].lower() for host in self.server.hosts))

    @property
    def https_table(self) -> str:
        """Name of its route table."""
        port, gateway = self.server.port, self.gateway
        bound = f".{self.bind}" if self.bind != ANY_ADDRESS else ""
        return f"https.{port.number}.{port.name}.{gateway.name}.{gateway.namespace}{bound}"

    def hosts_for(self, namespace: str) -> list[str]:
        """The host names that VirtualServices of a namespace may use here, in lower case."""
        own = self.gateway.namespace
        hosts = (f"{own}/{host[2:]}" if host.startswith("./") else host for host in self.server.hosts)
        return for_namespace((host.lower() for host in hosts), namespace)


def selected_gateways(gateways: Iterable[Gateway], labels: Mapping[str, str]) -> list[Gateway]:
    """Those that the proxy with these labels serves, oldest first; an empty selector means every gateway."""
    found = [gateway for gateway in gateways if gateway.spec.selector.items() <= labels.items()]
    return sorted(found, key=lambda gateway: gateway.age_key)


def opened(
    gateways: Iterable[Gateway], services: Iterable[MeshService], named_ports: Mapping[str, int]
) -> tuple[list[Opened], list[Problem]]:
    """The servers that can be served together; of two that exclude each other on a port the first has it.

    `services` are the gateway's own, `named_ports` its container ports by name.
    """
    kept: list[Opened] = []
    problems: list[Problem] = []
    for gateway in gateways:
        for index, server in enumerate(gateway.spec.servers):
            one = Opened(gateway=gateway, index=index, server=server, port=_listening(server, services, named_ports))
            found = _obstacle(one, kept)
            problems += [found] if found else []
            kept += [one] if not found else []
    return kept, problems


def _listening(server: WantedServer, services: Iterable[MeshService], named_ports: Mapping[str, int]) -> int:
    """The container port behind that port of the gateway's Service; without one the number is taken as given."""
    for service in services:
        port = service.port(server.port.number)
        number = container_port(port, named_ports) if port else None
        if number is not None:
            return number
    return server.port.number


def _obstacle(one: Opened, kept: Iterable[Opened]) -> Problem | None:
    for other in kept:
        if other.port == one.port and other.bind == one.bind and not _share_port(other, one):
            return problem(
                one.gateway,
                "IST0145",
                f"spec.servers[{one.index}].port",
                f"Port {one.server.port.number} ({one.protocol}) is already served as {other.protocol} by Gateway "
                f"{other.name}, which is older; this server is not opened. Choose another port or protocol.",
            )
    return None


def _share_port(first: Opened, second: Opened) -> bool:
    """By the Host header, or by the name in the TLS handshake."""
    both_http = first.protocol.is_http and second.protocol.is_http
    return both_http or (first.protocol.is_tls and second.protocol.is_tls)
