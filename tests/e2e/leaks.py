"""All that a cluster says, shows and lets lie about, for who looks for keys and tokens in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .mesh import Mesh

STEAL = """
    import glob, os
    os.setgid(1337)
    os.setuid(1337)
    found = []
    for process in glob.glob("/proc/[0-9]*"):
        for path in ("/root/var/run/secrets/tokens/istio-token", "/root/var/run/secrets/workload-spiffe-uds/socket"):
            try:
                os.stat(process + path)
                found.append(process + path)
            except OSError:
                pass
    print(len(found))
"""
"""How many things of the proxy's alone an app finds that is root in its own container."""
SECRET = re.compile(rb"PRIVATE KEY-----|eyJ[\w-]{16,}\.eyJ[\w-]{16,}\.[\w-]{16,}")
"""A key in PEM, or a token."""


ADMIN = "http://localhost:15000"
PAGES = [f"{ADMIN}/{page}" for page in ("config_dump?include_eds", "certs", "stats", "clusters", "listeners")]
TOLD = """
import sys, urllib.request
for proxy in sys.argv[1:]:
    print(urllib.request.urlopen(f"http://localhost:15014/debug/config_dump?proxyID={proxy}").read().decode())
"""


def told(mesh: Mesh) -> Iterator[tuple[str, bytes]]:
    """Whatever logs, dumps and commands say, by who says it."""
    pods = [(pod["metadata"]["name"], pod["metadata"]["namespace"]) for pod in mesh.get("pods", "", "", "-A")["items"]]
    for name, namespace in pods:
        yield f"logs of {name}", mesh.kubectl("logs", name, "-n", namespace, "--all-containers").encode()
    proxies = [(name, namespace) for name, namespace in pods if name.startswith(("client", "server", "istio-"))]
    for name, namespace in proxies:
        proxy = ("exec", name, "-n", namespace, "-c", "istio-proxy", "--", "curl", "-s", *PAGES)
        yield f"pages of {name}", mesh.kubectl(*proxy).encode()
        secret = mesh.mizzen("proxy-config", "secret", f"{name}.{namespace}", "-o", "json")
        assert "ROOTCA" in secret
        yield f"secrets of {name}", secret.encode()
    names = [".".join(proxy) for proxy in proxies]
    yield (
        "istiod",
        mesh.kubectl("exec", "-n", "istio-system", "deploy/istiod", "--", "python3", "-c", TOLD, *names).encode(),
    )
    yield "Pods", mesh.kubectl("get", "pods,events,configmaps,gateways", "-A", "-o", "yaml").encode()
    for log in (mesh.state / "logs").iterdir():
        yield str(log), log.read_bytes()


def processes(mesh: Mesh) -> Iterator[tuple[str, bytes]]:
    """Command line and environment of everything in the box."""
    waiting = [mesh.box()]
    for pid in waiting:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
            for name in ("cmdline", "environ"):
                yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended


def open_to_others(top: Path) -> Iterator[Path]:
    """Files that any user of this machine may read. What is above `top` is not ours."""
    if top.stat().st_mode & 0o001:
        for path in top.iterdir():
            if path.is_dir() and not path.is_symlink():
                yield from open_to_others(path)
            elif path.is_file() and path.stat().st_mode & 0o004:
                yield path
