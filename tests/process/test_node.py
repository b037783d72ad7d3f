"""A whole cluster without a mesh: Pods made through the API run, are told about, and end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio
from pyroute2 import IPRoute

from clusters import IMAGES
from mizzen.embedded import cluster, images
from mizzen.embedded.box import record
from mizzen.embedded.box.cgroups import hierarchy
from mizzen.embedded.node.policies import NETWORK_POLICIES
from mizzen.embedded.paths import cluster_paths
from mizzen.kube.api import WELL_KNOWN, ApiError, NotFound, Resource, Selector
from mizzen.kube.http import HttpApi
from mizzen.kube.streams import logs

pytestmark = [
    pytest.mark.process,
    pytest.mark.root,
    pytest.mark.asyncio(loop_scope="module"),
]
NAME = "test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder)
    try:
        paths = cluster_paths(NAME)
        images.save(paths.images, IMAGES)
        await cluster.start(NAME, user_kubeconfig=folder / "kubeconfig")
        async with HttpApi.from_kubeconfig(paths.kubeconfig) as found:
            yield found
    finally:
        await cluster.delete(NAME)
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def pod(name, *containers, **spec):
    spec = {"containers": list(containers), "terminationGracePeriodSeconds": 5, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def shell(script, name="a", **fields):
    return {"name": name, "image": "shell:1", "args": ["-c", script], **fields}


CALLS = """\
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=2).read().decode())
    except OSError as error:
        print(type(getattr(error, "reason", error)).__name__)
"""


def calling(*urls):
    """Writes what each of them says, or why it says nothing."""
    return {"name": "a", "image": "shell:1", "command": [sys.executable, "-c", CALLS, *urls]}


async def until(api, name, holds, limit=20.0):
    """The Pod, once `holds` is true of it."""
    deadline = time.monotonic() + limit
    while True:
        found = await api.get(WELL_KNOWN.pods, name, "default")
        if holds(found):
            return found
        assert time.monotonic() < deadline, found["status"]
        await asyncio.sleep(0.05)


def restarted(found):
    return any(each["restartCount"] >= 1 for each in found["status"].get("containerStatuses") or ())


def is_ready(found):
    conditions = found["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def phase(wanted):
    return lambda found: found["status"].get("phase") == wanted


def state(found, kind, index=0):
    return found["status"]["containerStatuses"][index]["state"].get(kind)


async def until_told(api, name, text, limit=10.0):
    """An Event of the Pod that says so."""
    deadline = time.monotonic() + limit
    told = []
    while text not in told:
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)
        events = await api.list(WELL_KNOWN.events, "default", Selector(fields=f"involvedObject.name={name}"))
        told = [each["message"] for each in events.items]


async def log_of(api, name, container="a"):
    return b"".join([chunk async for chunk in logs(api, "default", name, container=container)]).decode()


async def delete(api, name):
    begun = time.monotonic()
    await api.delete(WELL_KNOWN.pods, name, "default")
    while True:
        try:
            await api.get(WELL_KNOWN.pods, name, "default")
        except NotFound:
            return time.monotonic() - begun
        await asyncio.sleep(0.02)


def node_pid():
    box = record.read(cluster_paths(NAME))
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number, line = int(entry.name), (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(box.pid) and b"mizzen.embedded.node" in line:
                return number
    return 0


def pause_of(found):
    """The pid, on this machine, of the process that holds the Pod's namespaces: its hostname tells."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            first = (entry / "status").read_text().partition("NSpid:")[2].splitlines()[0].split()[-1] == "1"
            if first and hostname_of(number) == found["metadata"]["name"]:
                return number
    raise AssertionError("no pause process")


def hostname_of(pid):
    own = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
    words = ["nsenter", "-t", str(pid), *own, "-u", "hostname"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


async def answers_again(api, old):
    """Whether another node process than `old` serves the log of the Pod `lives`."""
    if node_pid() in (0, old):
        return False
    try:
        return "line" in await log_of(api, "lives")
    except ApiError:
        return False


async def test_a_pod_runs_and_is_ready_soon(api):
    probe = {"httpGet": {"path": "/", "port": "http"}}
    web = {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe}
    await api.create(WELL_KNOWN.pods, pod("web", web), "default")
    found = await until(api, "web", is_ready)
    assert found["status"]["podIP"].startswith("10.244.")
    assert "GET / HTTP" in await log_of(api, "web", "web")
    assert await delete(api, "web") < 5


async def test_init_containers_sidecars_and_volumes(api):
    data = {"name": "d", "mountPath": "/data"}
    side = shell(
        "echo ready > /data/side; trap 'exit 0' TERM; while :; do sleep 0.1; done", "side", volumeMounts=[data]
    )
    side |= {"restartPolicy": "Always", "startupProbe": {"exec": {"command": ["test", "-e", "/data/side"]}}}
    setup = shell("cat /data/side > /data/setup", "setup", volumeMounts=[data])
    app = shell(
        "cat /data/setup /conf/key; echo $MODE; id -u", volumeMounts=[data, {"name": "c", "mountPath": "/conf"}]
    )
    app |= {
        "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "key"}}}],
        "securityContext": {"runAsUser": 1337},
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"key": "value"}}
    volumes = [{"name": "d", "emptyDir": {"medium": "Memory"}}, {"name": "c", "configMap": {"name": "cm"}}]
    await api.create(WELL_KNOWN.configmaps, config, "default")
    job = pod("job", app, initContainers=[side, setup], volumes=volumes, restartPolicy="Never")
    await api.create(WELL_KNOWN.pods, job, "default")
    found = await until(api, "job", phase("Succeeded"))
    user = 1337 if os.geteuid() == 0 else 0  # somebody else's cluster has but one user
    assert await log_of(api, "job") == f"ready\nvaluevalue\n{user}\n"
    assert found["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    await delete(api, "job")


async def test_crashes_unknown_images_and_missing_sources_are_told(api):
    await api.create(WELL_KNOWN.pods, pod("crash", shell("echo dying; exit 7")), "default")
    await api.create(WELL_KNOWN.pods, pod("image", {"name": "a", "image": "nosuch:1"}), "default")
    source = {"configMapKeyRef": {"name": "later", "key": "k"}}
    waiting = shell("sleep 1000", env=[{"name": "X", "valueFrom": source}])
    await api.create(WELL_KNOWN.pods, pod("waits", waiting), "default")

    def in_crash_loop(found):
        return (
            found["status"].get("containerStatuses")
            and (state(found, "waiting") or {}).get("reason") == "CrashLoopBackOff"
        )

    found = await until(api, "crash", in_crash_loop)
    assert found["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    found = await until(api, "image", lambda each: "Image" in ((state(each, "waiting") or {}).get("reason") or ""))
    assert "mizzen image add" in state(found, "waiting")["message"]
    config_error = "CreateContainerConfigError"
    await until(api, "waits", lambda each: (state(each, "waiting") or {}).get("reason") == config_error)
    later = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"k": "v"}}
    await api.create(WELL_KNOWN.configmaps, later, "default")
    await until(api, "waits", is_ready)
    for name in ("crash", "image", "waits"):
        assert await delete(api, name) < 6


async def test_stopping_is_graceful_and_bounded(api):
    polite = shell("trap 'sleep 0.3; echo bye > /dev/termination-log; exit 0' TERM; while :; do sleep 0.1; done")
    stubborn = shell("trap '' TERM; while :; do sleep 0.1; done")
    await api.create(WELL_KNOWN.pods, pod("polite", polite), "default")
    await api.create(WELL_KNOWN.pods, pod("stubborn", stubborn, terminationGracePeriodSeconds=1), "default")
    for name in ("polite", "stubborn"):
        await until(api, name, is_ready)
    await asyncio.sleep(0.2)
    assert 0.3 <= await delete(api, "polite") < 4
    assert 1.0 <= await delete(api, "stubborn") < 5


async def test_pods_outlive_their_node(api):
    """Nothing about a running Pod changes when the node daemon is killed and comes back."""
    script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    await api.create(WELL_KNOWN.pods, pod("lives", shell(script, readinessProbe=probe)), "default")
    before = await until(api, "lives", is_ready)
    old = node_pid()
    os.kill(old, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not await answers_again(api, old):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)
    after = await api.get(WELL_KNOWN.pods, "lives", "default")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    numbers = [int(line.split()[1]) for line in (await log_of(api, "lives")).splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 20
    assert await delete(api, "lives") < 8


async def test_config_map_changes_reach_running_pods(api):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "live"}, "data": {"k": "old"}}
    await api.create(WELL_KNOWN.configmaps, config, "default")
    script = "while ! grep -q new /conf/k; do sleep 0.05; done; echo saw it"
    app = shell(script, volumeMounts=[{"name": "c", "mountPath": "/conf"}])
    volumes = [{"name": "c", "configMap": {"name": "live"}}]
    await api.create(WELL_KNOWN.pods, pod("watcher", app, volumes=volumes, restartPolicy="Never"), "default")
    await until(api, "watcher", is_ready)
    await api.patch(WELL_KNOWN.configmaps, "live", {"data": {"k": "new"}}, "default")
    await until(api, "watcher", phase("Succeeded"))
    await delete(api, "watcher")


async def test_liveness_restarts_and_a_deadline_ends(api):
    sick = shell("touch /tmp/ok; sleep 1; rm /tmp/ok; sleep 1000")
    sick["livenessProbe"] = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    await api.create(WELL_KNOWN.pods, pod("sick", sick), "default")
    await api.create(WELL_KNOWN.pods, pod("late", shell("sleep 1000"), activeDeadlineSeconds=1), "default")
    await until(api, "sick", restarted)
    found = await until(api, "late", phase("Failed"))
    assert found["status"]["reason"] == "DeadlineExceeded"
    for name in ("sick", "late"):
        await delete(api, name)


async def test_limits_hold_where_cgroups_can_be_written(api):
    if hierarchy(cluster_paths(NAME).root) is None:
        pytest.skip("no cgroup is writable here")
    modest = shell("sleep 1000", resources={"limits": {"memory": "32Mi", "cpu": "500m"}})
    await api.create(WELL_KNOWN.pods, pod("modest", modest), "default")
    await until(api, "modest", is_ready)
    python = {"name": "a", "image": "python:1", "args": ["-c", "x = 'x' * 200_000_000"]}
    python["resources"] = {"limits": {"memory": "50Mi"}}
    await api.create(WELL_KNOWN.pods, pod("eater", python, restartPolicy="Never"), "default")
    found = await until(api, "eater", phase("Failed"))
    assert state(found, "terminated")["reason"] == "OOMKilled"
    assert state(found, "terminated")["exitCode"] == 137
    for name in ("modest", "eater"):
        await delete(api, name)


async def test_a_pod_whose_namespaces_were_killed_comes_back(api):
    await api.create(WELL_KNOWN.pods, pod("phoenix", shell("sleep 1000")), "default")
    before = await until(api, "phoenix", is_ready)
    os.kill(pause_of(before), signal.SIGKILL)

    def is_another(found):
        return is_ready(found) and found["status"]["podIP"] != before["status"]["podIP"] and restarted(found)

    after = await until(api, "phoenix", is_another)
    assert after["status"]["containerStatuses"][0]["restartCount"] == 1
    await delete(api, "phoenix")


async def test_claims_keep_their_content(api):
    claims = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [{"name": "c", "persistentVolumeClaim": {"claimName": "data"}}]
    mount = [{"name": "c", "mountPath": "/data"}]
    writer = pod("writer", shell("echo kept > /data/x", volumeMounts=mount), volumes=volumes, restartPolicy="Never")
    await api.create(WELL_KNOWN.pods, writer, "default")
    await asyncio.sleep(0.3)
    assert (await api.get(WELL_KNOWN.pods, "writer", "default"))["status"]["phase"] == "Pending"
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    await api.create(claims, claim, "default")
    await until(api, "writer", phase("Succeeded"))
    await delete(api, "writer")
    assert (await api.get(claims, "data", "default"))["status"]["phase"] == "Bound"
    reader = pod("reader", shell("cat /data/x", volumeMounts=mount), volumes=volumes, restartPolicy="Never")
    await api.create(WELL_KNOWN.pods, reader, "default")
    await until(api, "reader", phase("Succeeded"))
    assert await log_of(api, "reader") == "kept\n"
    folders = cluster_paths(NAME).claims / "default"
    assert [each.name.partition("_")[0] for each in folders.iterdir()] == ["data"]
    template = {"spec": spec}
    own = [{"name": "c", "ephemeral": {"volumeClaimTemplate": template}}]
    script = shell("cat /data/x; echo own > /data/x", volumeMounts=mount)
    await api.create(WELL_KNOWN.pods, pod("own", script, volumes=own, restartPolicy="Never"), "default")
    await until(api, "own", phase("Succeeded"))
    assert "No such file" in await log_of(api, "own")
    await delete(api, "own")
    await api.delete(claims, "data", "default")
    late = pod("late", shell("cat /data/x", volumeMounts=mount), volumes=volumes, restartPolicy="Never")
    await api.create(WELL_KNOWN.pods, late, "default")
    await until_told(api, "late", 'persistentvolumeclaim "data" is being deleted')
    assert (await api.get(claims, "data", "default"))["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    await delete(api, "reader")
    await delete(api, "late")
    deadline = time.monotonic() + 20
    with pytest.raises(NotFound):
        while time.monotonic() < deadline:
            await api.get(claims, "data", "default")
            await asyncio.sleep(0.02)
    while list(folders.iterdir()):
        assert time.monotonic() < deadline, list(folders.iterdir())
        await asyncio.sleep(0.05)


@pytest.fixture
def outside():
    """Addresses of the machine, here of the network that these tests have for themselves: no box has a way to them."""
    own = {"198.51.100.7": 32, **({"2001:db8::7": 128} if socket.has_dualstack_ipv6() else {})}
    with IPRoute() as route:
        for address, length in own.items():
            route.addr("add", index=1, address=address, prefixlen=length)
        yield list(own)
        for address, length in own.items():
            route.addr("del", index=1, address=address, prefixlen=length)


async def test_pods_reach_servers_outside_the_cluster_as_far_as_policies_let_them(api, outside):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    nearly = {"198.51.100.0/24": "198.51.100.7/32", "2001:db8::/64": "2001:db8::7/128"}
    blocks = [{"ipBlock": {"cidr": block, "except": [but]}} for block, but in nearly.items()]
    spec = {"podSelector": {"matchLabels": {"kept": "in"}}, "egress": [{"to": blocks}], "policyTypes": ["Egress"]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "in"}, "spec": spec}
    await api.create(NETWORK_POLICIES, policy, "default")
    async with await asyncio.start_server(serve, outside, 18080):
        hosts = [f"[{address}]" if ":" in address else address for address in outside]
        servers = [f"http://{host}:18080/" for host in hosts]
        free = pod("free", calling(*servers, f"http://{outside[0]}:1/"), restartPolicy="Never")
        kept = pod("kept", calling(*servers), restartPolicy="Never")
        kept["metadata"]["labels"] = {"kept": "in"}
        for each in (free, kept):
            await api.create(WELL_KNOWN.pods, each, "default")
        for name in ("free", "kept"):
            await until(api, name, phase("Succeeded"))
    *answers, failure = (await log_of(api, "free")).split()
    assert answers == ["hello"] * len(outside)
    assert failure in ("ConnectionResetError", "RemoteDisconnected", "ConnectionRefusedError")
    assert (await log_of(api, "kept")).split() == ["TimeoutError"] * len(outside)
    await api.delete(NETWORK_POLICIES, "in", "default")
    for name in ("free", "kept"):
        await delete(api, name)
