"""A Service of both families: what is asked of it, and from where."""

from __future__ import annotations

from .field import Field
from .mesh import Mesh

SLICES = "kubernetes.io/service-name=both"
NAMES = """
    import socket
    def asked(family):
        return socket.getaddrinfo("both", 80, family, socket.SOCK_STREAM)[0][4][0]
    print(asked(socket.AF_INET6), asked(socket.AF_INET), socket.gethostbyaddr(asked(socket.AF_INET6))[0])
"""
ECHO = """
    import socket, sys
    with socket.create_connection((sys.argv[1], 9000), 5) as connection:
        connection.sendall(b"ping")
        print(connection.recv(4).decode())
"""
NOT_FROM = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-from}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {ipBlocks: [ADDRESS]}}]}]
"""
ONLY_CLIENT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-client}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""


def from_machine(mesh: Mesh) -> list[bool]:
    """Whether the Service answers the machine at its node port, by each address of its load balancer."""
    found = mesh.get("service", "both")
    port, ingress = found["spec"]["ports"][0]["nodePort"], found["status"]["loadBalancer"]["ingress"]
    hosts = [f"[{one['ip']}]" if ":" in one["ip"] else one["ip"] for one in ingress]
    return [mesh.succeeds("curl", "-g", "-sf", "-m", "2", f"http://{host}:{port}/") for host in hosts]


def status(field: Field, host: str) -> str:
    """What the client is answered."""
    words = ("-g", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}/")
    return field.mesh.curl(*words, source="pod/client")
