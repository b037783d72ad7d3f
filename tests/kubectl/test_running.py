"""The stories in `stories/` that need Pods to run: one real cluster, every kubectl that is at hand."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import clusters
from kubectl_stories import Client, Stage, Story, clients, load

CLIENTS = clients()
STORIES = [story for story in load(Path(__file__).parent / "stories") if story.needs == "node"]
pytestmark = [
    pytest.mark.process,
    pytest.mark.root,
    pytest.mark.skipif(not CLIENTS, reason="no kubectl on PATH nor in MIZZEN_KUBECTLS"),
]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIZZEN_IP_FAMILIES", "IPv4")  # a cluster of one family; those of `tests/e2e` have both
        with clusters.running("stories", tmp_path_factory.mktemp("c")) as paths:
            yield paths.kubeconfig


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(kubeconfig: Path, client: Client, home: Path, tmp_path: Path, story: Story) -> None:
    namespace = re.sub(r"[^a-z0-9]+", "-", f"{story.name}-{client}")
    Stage(client, home, kubeconfig, tmp_path, namespace).play(story)


def test_port_forward(kubeconfig: Path, client: Client, home: Path, tmp_path: Path) -> None:
    """Newer clients speak SPDY inside of a WebSocket, older ones SPDY."""
    namespace = re.sub(r"[^a-z0-9]+", "-", f"forward-{client}")
    stage = Stage(client, home, kubeconfig, tmp_path, namespace)
    stage.play(Story("forward", [{"run": "run web --image=web:1 -n default --dry-run=client"}]))
    made = stage.kubectl(["run", "web", "--image=web:1", "--port=8080", "-n", "default"])
    assert made.returncode == 0, made.stderr
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home)}
    try:
        stage.kubectl(["wait", "--for=condition=ready", "pod/web", "-n", "default", "--timeout=60s"])
        # Newer clients give up at the first connection that is refused.
        stage.kubectl(
            ["exec", "web", "-n", "default", "--", "sh", "-c", "until curl -s localhost:8080 >&2; do :; done"]
        )
        forward = subprocess.Popen(
            [client.path, "port-forward", "-n", "default", "pod/web", ":8080"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert forward.stdout is not None
            told = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert told
            for _ in range(3):
                assert _get(int(told[1])).startswith(b"HTTP/1.0 200")
        finally:
            forward.terminate()
            forward.wait(10)
            assert forward.stdout is not None
            forward.stdout.close()
    finally:
        stage.kubectl(["delete", "pod", "web", "-n", "default", "--grace-period=1"])


def _get(port: int) -> bytes:
    deadline = time.monotonic() + 10
    while True:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = connection.recv(4096)
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)  # the port is open before the server in the Pod is
