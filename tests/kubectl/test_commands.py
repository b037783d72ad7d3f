"""The stories in `stories/`, each played with every kubectl that is at hand, against one API server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apiservers import ApiServer
from kubectl_stories import Client, Stage, Story, clients, load

CLIENTS = clients()
STORIES = [story for story in load(Path(__file__).parent / "stories") if not story.needs]
pytestmark = [pytest.mark.process, pytest.mark.skipif(not CLIENTS, reason="no kubectl on PATH nor in MIZZEN_KUBECTLS")]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path_factory.mktemp("server"))
    # Nothing runs here: Pods that stay unscheduled can be deleted without a node that confirms it.
    closed = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "mizzen"}, "spec": {"unschedulable": True}}
    command = [CLIENTS[-1].path, "--kubeconfig", str(started.kubeconfig), "create", "-f", "-"]
    subprocess.run(command, input=json.dumps(closed), text=True, check=True, stdout=subprocess.DEVNULL)
    yield started
    started.stop()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(server: ApiServer, client: Client, home: Path, tmp_path: Path, story: Story) -> None:
    namespace = re.sub(r"[^a-z0-9]+", "-", f"{story.name}-{client}")
    Stage(client, home, server.kubeconfig, tmp_path, namespace).play(story)
