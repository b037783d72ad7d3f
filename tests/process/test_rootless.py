"""A cluster of somebody who is not root: one user id, and no link to the machine but sockets handed over."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from pyroute2 import IPRoute

pytestmark = pytest.mark.process

SCRIPT = """
import asyncio, json, os, socket, sys, time
from pathlib import Path
from mizzen.embedded import cluster, images
from mizzen.embedded.paths import cluster_paths
from mizzen.kube.api import WELL_KNOWN, ApiError
from mizzen.kube.http import HttpApi
from mizzen.kube.streams import logs

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

def check(outside):
    env = [{"name": "OUTSIDE", "value": outside}]
    container = {"name": "a", "image": "python:1", "args": ["-c", os.environ["CHECK"]], "env": env}
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "check", "labels": {"app": "check"}}, "spec": spec}

def called(name, app, **spec):
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

async def within(api):
    # What a Pod finds under the names of Services, and outside of the cluster.
    named = {"type": "ExternalName", "externalName": "web.default.svc.cluster.local", "selector": None, "ports": None}
    for each in (
        called("headless", "web", clusterIP="None"),
        called("elsewhere", "web", **named),
        called("itself", "check"),
        called("early", "unready", clusterIP="None", publishNotReadyAddresses=True),
        called("late", "unready", clusterIP="None"),
    ):
        await api.create(WELL_KNOWN.services, each, "default")
    never = {"exec": {"command": ["false"]}}
    unready = {**POD, "metadata": {"name": "unready", "labels": {"app": "unready"}}}
    unready["spec"] = {"containers": [{**POD["spec"]["containers"][0], "readinessProbe": never}]}
    await api.create(WELL_KNOWN.pods, unready, "default")
    await api.create(WELL_KNOWN.pods, check(os.environ.get("OUTSIDE", "")), "default")
    while True:
        status = (await api.get(WELL_KNOWN.pods, "check", "default"))["status"]
        if status.get("phase") in ("Succeeded", "Failed"):
            break
        await asyncio.sleep(0.05)
    return b"".join([part async for part in logs(api, "default", "check")]).decode()

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
    images.save(paths.images, {"web:*": web, "python:*": images.Command(entrypoint=["python3"])})
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
        heard = await within(api)
    found = {"rootless": started.rootless, "address": started.address, "ports": ports, "told": told, "heard": heard}
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    await cluster.delete("rootless")

asyncio.run(asyncio.wait_for(main(), 90))
"""
CHECK = """
import http.server, os, socket, threading, time, urllib.request

def until(find):
    for _ in range(200):
        try:
            return find()
        except OSError:
            time.sleep(0.05)
    return find()

def status(host):
    return until(lambda: urllib.request.urlopen(f"http://{host}/", timeout=5).status)

server = http.server.ThreadingHTTPServer(("", 8080), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
pod, service, early = (until(lambda: socket.gethostbyname(name)) for name in ("headless", "web", "early"))
assert pod.startswith("10.244.") and service.startswith("10.96.") and early not in (pod, service)
assert socket.gethostbyname("elsewhere") == service
assert socket.gethostbyaddr(service)[0] == "web.default.svc.cluster.local"
try:
    raise SystemExit("late names " + socket.gethostbyname("late"))
except socket.gaierror:
    pass
calls = ["web", "headless:8080", "itself", *filter(None, [os.environ["OUTSIDE"]])]
print("calls", *(f"{call}={status(call)}" for call in calls))
"""
"""What a Pod that knows Services by their names can see of them."""


@pytest.fixture
def outside():
    """Where a server of the machine listens that no box has a way to; "" where we may not make such an address."""
    if os.geteuid():
        yield ""
        return
    with IPRoute() as route:
        route.addr("add", index=1, address="198.51.100.7", prefixlen=32)
        with http.server.ThreadingHTTPServer(("198.51.100.7", 0), http.server.SimpleHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever).start()
            yield f"198.51.100.7:{server.server_port}"
            server.shutdown()
        route.addr("del", index=1, address="198.51.100.7", prefixlen=32)


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
def test_pods_answer_on_the_machines_loopback_and_each_other(tmp_path_factory, outside):
    folder = tmp_path_factory.mktemp("r")
    command = [sys.executable, "-c", SCRIPT]
    if os.geteuid() == 0:
        command = ["unshare", "--user", "--map-root-user", *command]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "CHECK": CHECK, "OUTSIDE": outside}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            line = owner.stdout.readline()
            assert line, (folder / "mizzen/rootless/logs/init.log").read_text()
            told = json.loads(line)
            assert told["rootless"] and told["address"] == "127.0.0.1"
            datagrams, taken = sorted(told["told"], key=lambda each: "UDP" not in each)
            assert "/UDP answers within the cluster only" in datagrams
            assert "cannot be had on the machine: listen 127.0.0.1:" in taken and "Address already in use" in taken
            calls = [line for line in told["heard"].splitlines() if line.startswith("calls ")]
            expected = ["web=200", "headless:8080=200", "itself=200", *([f"{outside}=200"] if outside else [])]
            assert calls == [" ".join(["calls", *expected])], told["heard"]
            for port in told["ports"]:  # of a Service of IPv4, and of one of IPv6 where there is that
                assert status_of(f"http://127.0.0.1:{port}/") == 200
        finally:
            owner.stdin.close()
            assert owner.wait(60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{told['ports'][0]}/", timeout=10)
