"""A cluster of somebody who is not root: one user id, and no link to the machine but sockets handed over."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
import asyncio, json, os, socket, sys, time
from pathlib import Path
from mizzen.embedded import cluster, images
from mizzen.embedded.paths import cluster_paths
from mizzen.kube.api import WELL_KNOWN, ApiError
from mizzen.kube.http import HttpApi

POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{
        "name": "web", "image": "web:1", "securityContext": {"runAsUser": 1337},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    }]},
}
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
    "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}

def taken():
    # A node port that somebody else on this machine has.
    for port in range(30100, 32767):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            continue

def node_port(name, **port):
    spec = {"type": "NodePort", "ports": [{"port": 80, **port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

async def complaints(api, wanted):
    while True:
        events = (await api.list(WELL_KNOWN.events, "default")).items
        told = [each["message"] for each in events if each["reason"] == "NodePortUnavailable"]
        if len(told) >= wanted:
            return sorted(told)
        await asyncio.sleep(0.05)

async def main():
    paths = cluster_paths("rootless")
    everywhere = ["--bind", "::"] if socket.has_dualstack_ipv6() else []
    web = images.Command(entrypoint=["python3", "-m", "http.server", "8080", *everywhere])
    images.save(paths.images, {"web:*": web})
    started = await cluster.start("rootless", user_kubeconfig=paths.root / "user-kubeconfig")
    async with HttpApi.from_kubeconfig(paths.kubeconfig) as api:
        await api.create(WELL_KNOWN.pods, POD, "default")
        service = await api.create(WELL_KNOWN.services, SERVICE, "default")
        ports = [service["spec"]["ports"][0]["nodePort"]]
        if "IPv6" in started.ip_families:
            six = {**SERVICE, "metadata": {"name": "six"}, "spec": {**SERVICE["spec"], "ipFamilies": ["IPv6"]}}
            alone = await api.create(WELL_KNOWN.services, six, "default")
            ports.append(alone["spec"]["ports"][0]["nodePort"])
        while True:
            status = (await api.get(WELL_KNOWN.pods, "web", "default"))["status"]
            if any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()):
                break
            await asyncio.sleep(0.05)
        await api.create(WELL_KNOWN.services, node_port("datagrams", protocol="UDP"), "default")
        with taken() as other:
            number = other.getsockname()[1]
            await api.create(WELL_KNOWN.services, node_port("taken", nodePort=number), "default")
            told = await complaints(api, 2)
    found = {"rootless": started.rootless, "address": started.address, "ports": ports, "told": told}
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    await cluster.delete("rootless")

asyncio.run(asyncio.wait_for(main(), 90))
"""


def status_of(url, limit=10.0):
    """What answers, once something does: rules follow a ready Pod by some milliseconds."""
    deadline = time.monotonic() + limit
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def can_unshare():
    return subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="user namespaces are forbidden here")
def test_a_pod_answers_on_the_machines_loopback(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    command = [sys.executable, "-c", SCRIPT]
    if os.geteuid() == 0:
        command = ["unshare", "--user", "--map-root-user", *command]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            line = owner.stdout.readline()
            assert line, (folder / "mizzen/rootless/logs/init.log").read_text()
            told = json.loads(line)
            assert told["rootless"] and told["address"] == "127.0.0.1"
            datagrams, taken = sorted(told["told"], key=lambda each: "UDP" not in each)
            assert "/UDP answers within the cluster only" in datagrams
            assert "cannot be had on the machine: listen 127.0.0.1:" in taken and "Address already in use" in taken
            for port in told["ports"]:  # of a Service of IPv4, and of one of IPv6 where there is that
                assert status_of(f"http://127.0.0.1:{port}/") == 200
        finally:
            owner.stdin.close()
            assert owner.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{told['ports'][0]}/", timeout=10)
