"""One suite, several API servers: in memory, in the server's own process, and over HTTPS; and a real one if asked for.

`MIZZEN_CONTRACT_KUBECONFIG=…` adds the cluster of that kubeconfig.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import applications
from mizzen.embedded.apiserver.application import Application
from mizzen.embedded.apiserver.connections import Connections
from mizzen.embedded.apiserver.http_server import HttpServer, tls_context
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import Pki, kubeconfig
from mizzen.kube.api import WELL_KNOWN, Api
from mizzen.kube.http import HttpApi
from mizzen.kube.memory import MemoryApi

REAL = os.environ.get("MIZZEN_CONTRACT_KUBECONFIG", "")
KINDS = ["memory", "local", "https", *(["real"] if REAL else [])]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("cluster") / "pki")


@contextlib.asynccontextmanager
async def served(application: Application, pki: Pki, folder: Path) -> AsyncIterator[Path]:
    """The application behind TLS on a free port: a kubeconfig file for it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    connections = Connections(application.relay.socket)
    server = HttpServer(application.core, application.authenticator, connections.connect)
    await server.start([listener], tls_context(pki))
    path = folder / "kubeconfig"
    path.write_text(kubeconfig(pki, f"https://127.0.0.1:{listener.getsockname()[1]}"))
    yield path
    await connections.close()
    await server.close()


@contextlib.asynccontextmanager
async def connected(path: Path | str) -> AsyncIterator[HttpApi]:
    api = HttpApi.from_kubeconfig(path)
    yield api
    await api.close()


@pytest.fixture
async def application(tmp_path: Path, pki: Pki) -> AsyncIterator[Application]:
    async with applications.opened(tmp_path, pki) as application:
        yield application


@pytest.fixture
async def http_api(application: Application, pki: Pki, tmp_path: Path) -> AsyncIterator[HttpApi]:
    """The application over HTTPS, as kubectl's admin."""
    async with served(application, pki, tmp_path) as path, connected(path) as api:
        yield api


@pytest.fixture(params=KINDS)
async def api(request: pytest.FixtureRequest, tmp_path: Path, pki: Pki) -> AsyncIterator[Api]:
    if request.param == "memory":
        memory = MemoryApi()
        await memory.create(WELL_KNOWN.namespaces, {"metadata": {"name": "default"}})
        yield memory
    elif request.param == "real":
        async with connected(REAL) as real:
            yield real
    else:
        async with (
            applications.opened(tmp_path, pki) as opened,
            served(opened, pki, tmp_path) as path,
            connected(path) as https,
        ):
            yield opened.api if request.param == "local" else https


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    await api.create(WELL_KNOWN.namespaces, {"metadata": {"name": name}})
    yield name
    await api.delete(WELL_KNOWN.namespaces, name)
