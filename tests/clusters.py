"""A cluster with a node and without a mesh, in a folder of its own, for as long as a test module needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mizzen.embedded import cluster, images
from mizzen.embedded.paths import ClusterPaths, cluster_paths

SHELL = images.Command(entrypoint=["sh"])
PYTHON = images.Command(entrypoint=["python3"])
WEB = images.Command(entrypoint=["python3", "-m", "http.server"], args=["8080"])
IMAGES = {"shell:*": SHELL, "python:*": PYTHON, "web:*": WEB}


@contextmanager
def running(name: str, folder: Path, programs: Mapping[str, images.Image] = IMAGES) -> Iterator[ClusterPaths]:
    """The cluster `name`, its state below `folder`, with `programs` as images; deleted in the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        paths = cluster_paths(name)
        images.save(paths.images, dict(programs))
        try:
            asyncio.run(cluster.start(name, user_kubeconfig=folder / "kubeconfig"))
            yield paths
        finally:
            asyncio.run(cluster.delete(name))
