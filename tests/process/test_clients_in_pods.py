"""Other people's clients in Pods that run: exec, attach, port-forward and logs, as their own documentation shows.

`./dev test-clients` installs them.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import clusters

kubernetes = pytest.importorskip("kubernetes", reason="./dev test-clients installs it")

pytestmark = [
    pytest.mark.process,
    pytest.mark.root,
    # What other people's packages warn of is theirs.
    pytest.mark.filterwarnings("default"),
]
HEARING = "echo ready; while read line; do echo heard $line; echo wrong $line >&2; done"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"name": "web", "image": "web:1", "readinessProbe": {"tcpSocket": {"port": 8080}}},
            {"name": "hears", "image": "shell:1", "args": ["-c", HEARING], "stdin": True},
        ],
    },
}


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a cluster in which the Pod `web` is ready."""
    with clusters.running("clients", tmp_path_factory.mktemp("c")) as paths:
        kubernetes.config.load_kube_config(str(paths.kubeconfig))
        core = kubernetes.client.CoreV1Api()
        core.create_namespaced_pod("default", POD)
        watch = kubernetes.watch.Watch()
        for event in watch.stream(core.list_namespaced_pod, "default", timeout_seconds=60):
            conditions = event["object"].status.conditions or ()
            if any(each.type == "Ready" and each.status == "True" for each in conditions):
                break
        yield paths.kubeconfig


@pytest.fixture
def core(kubeconfig: Path) -> Any:
    kubernetes.config.load_kube_config(str(kubeconfig))
    return kubernetes.client.CoreV1Api()


# -- the official client -------------------------------------------------------------------------------------------


def executed(core: Any, *command: str, stdin: bool = False) -> Any:
    """A session in the container `web`, open."""
    return kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        "default",
        container="web",
        command=list(command),
        stdin=stdin,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )


def test_exec_tells_output_errors_and_exit_code(core: Any) -> None:
    session = executed(core, "sh", "-c", "echo out; echo err >&2; exit 3")
    session.run_forever(timeout=20)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("out\n", "err\n", 3)
    session = executed(core, "does-not-exist")
    session.run_forever(timeout=20)
    assert "executable file not found" in session.read_channel(kubernetes.stream.ws_client.ERROR_CHANNEL)


def test_exec_in_one_call(core: Any) -> None:
    said = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec, "web", "default", container="web", command=["echo", "hi"], stdout=True
    )
    assert said == "hi\n"


def test_exec_carries_standard_input(core: Any) -> None:
    session = executed(core, "sh", "-c", "read line; echo $line; read line; echo $line; read line", stdin=True)
    for line in ("one\n", "two\n"):
        session.write_stdin(line)
        assert session.readline_stdout(timeout=20) == line.strip()
    session.write_stdin("that is all\n")  # what is said right before the end, this client reads only now and then
    session.run_forever(timeout=20)
    assert session.returncode == 0


def test_attach_hears_and_is_heard(core: Any) -> None:
    session = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_attach,
        "web",
        "default",
        container="hears",
        stdin=True,
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    session.write_stdin("this\n")
    assert session.readline_stdout(timeout=20) == "heard this"
    assert session.readline_stderr(timeout=20) == "wrong this"
    session.close()


def answered(connection: socket.socket) -> int:
    """The status of the page at this connection."""
    client = http.client.HTTPConnection("web")
    client.sock = connection
    client.request("GET", "/etc/hostname")
    response = client.getresponse()
    assert response.read() == b"web\n"
    return response.status


def test_port_forward_in_the_older_framing(core: Any) -> None:
    forwarded = kubernetes.stream.portforward(
        core.connect_get_namespaced_pod_portforward, "web", "default", ports="8080,8081"
    )
    connection = forwarded.socket(8080)
    connection.settimeout(20)
    assert answered(connection) == 200
    silent = forwarded.socket(8081)
    silent.settimeout(20)
    assert silent.recv(1) == b""
    assert "cannot connect to port 8081" in forwarded.error(8081)
    assert forwarded.error(8080) is None


def test_logs_are_followed(core: Any) -> None:
    followed = core.read_namespaced_pod_log(
        "web", "default", container="hears", follow=True, tail_lines=1, since_seconds=600, _preload_content=False
    )
    assert next(iter(followed)) in (b"ready\n", b"heard this\n", b"wrong this\n")
    followed.close()


# -- kr8s ----------------------------------------------------------------------------------------------------------


def test_kr8s(kubeconfig: Path) -> None:
    kr8s = pytest.importorskip("kr8s", reason="./dev test-clients installs it")
    pod = kr8s.objects.Pod.get("web", api=kr8s.api(kubeconfig=str(kubeconfig)))
    assert pod.ready()
    done = pod.exec(["sh", "-c", "echo out; echo err >&2; exit 3"], container="web", check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    with pod.portforward(8080) as port, socket.create_connection(("127.0.0.1", port), 20) as connection:
        assert answered(connection) == 200
    assert next(iter(pod.logs(container="hears"))) == "ready"


# -- lightkube -----------------------------------------------------------------------------------------------------


def test_lightkube(kubeconfig: Path) -> None:
    lightkube = pytest.importorskip("lightkube", reason="./dev test-clients installs it")
    from lightkube.resources.core_v1 import Pod

    client = lightkube.Client(config=lightkube.KubeConfig.from_file(str(kubeconfig)), namespace="default")
    client.wait(Pod, "web", for_conditions=["Ready"])
    assert next(iter(client.log("web", container="hears", follow=True))) == "ready\n"
    done = client.exec(
        "web",
        container="web",
        command=["sh", "-c", "cat; echo err >&2; exit 3"],
        stdin="in\n",
        stdout=True,
        stderr=True,
    )
    assert (done.stdout, done.stderr, done.exit_code) == ("in\n", "err\n", 3)
