"""Port 15020 and the app's probes, over real sockets."""

import asyncio
import json
from contextlib import asynccontextmanager

import grpc
import pytest

from mizzen.agent.outgoing import call
from mizzen.agent.probes import _HEALTH
from mizzen.agent.settings import read_settings
from mizzen.agent.status import Status, serve_status

pytestmark = pytest.mark.process

INJECTED = {"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "INSTANCE_IP": "127.0.0.1", "SERVICE_ACCOUNT": "web"}


@asynccontextmanager
async def app(answers):
    """An HTTP server that knows some paths, and remembers the heads of what it was asked."""
    seen = []

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append((head, writer.get_extra_info("peername")[0]))
        writer.write(answers.get(head.split(" ")[1], "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()


def answer(status, body="", **headers):
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", body])


@asynccontextmanager
async def status(probes=None, metrics=None):
    done = []

    async def drained():
        done.append("drain")

    async def ended():
        done.append("quit")

    documents = {
        "ISTIO_KUBE_APP_PROBERS": json.dumps(probes or {}),
        "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps(metrics or {}),
    }
    settings = read_settings("sidecar", {**INJECTED, **documents})
    server = await serve_status(Status(settings, on_drain=drained, on_quit=ended), port=0)
    port = server.sockets[0].getsockname()[1]

    async def ask(path, method="GET"):
        return await call(method, port, path)

    yield ask, done
    server.close()


async def test_an_http_probe_meets_the_app_with_its_headers_and_not_through_the_proxy():
    async with app({"/health": answer("200 OK", "fine")}) as (port, seen):
        header = {"name": "Authorization", "value": "token"}
        probes = {"/app-health/web/livez": {"httpGet": {"path": "/health", "port": port, "httpHeaders": [header]}}}
        async with status(probes) as (ask, _):
            reply = await ask("/app-health/web/livez")
    assert (reply.status, reply.text) == (200, "fine")
    ((head, peer),) = seen
    assert "Authorization: token" in head
    assert peer == "127.0.0.6"


async def test_the_apps_own_status_is_passed_on():
    async with app({"/health": answer("503 Unavailable", "warming up")}) as (port, _):
        probes = {"/app-health/web/readyz": {"httpGet": {"path": "health", "port": port}}}
        async with status(probes) as (ask, _):
            reply = await ask("/app-health/web/readyz")
    assert (reply.status, reply.text) == (503, "warming up")


async def test_redirects_are_followed_on_the_same_host_only():
    answers = {
        "/a": answer("302 Found", Location="/b?x=1"),
        "/b?x=1": answer("500 Oops"),
        "/c": answer("302 Found", Location="http://elsewhere.example/"),
    }
    async with app(answers) as (port, _):
        paths = {f"/app-health/web/{path}": {"httpGet": {"path": path, "port": port}} for path in ("a", "c")}
        async with status(paths) as (ask, _):
            assert (await ask("/app-health/web/a")).status == 500
            assert (await ask("/app-health/web/c")).status == 302


async def test_an_app_that_is_not_there_fails_the_probe_with_a_reason():
    async with app({}) as (port, _):
        pass
    probes = {
        "/app-health/web/livez": {"httpGet": {"path": "/", "port": port}},
        "/app-health/web/readyz": {"tcpSocket": {"port": port}},
        "/app-health/web/startupz": {"grpc": {"port": port}},
    }
    async with status(probes) as (ask, _):
        for path in probes:
            reply = await ask(path)
            assert reply.status == 500
            assert "the probe failed" in reply.text


async def test_tcp_and_grpc_probes():
    health = grpc.unary_unary_rpc_method_handler(
        lambda request, context: _HEALTH["HealthCheckResponse"](status=1 if request.service == "good" else 2),
        _HEALTH["HealthCheckRequest"].FromString,
        lambda message: message.SerializeToString(),
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    probes = {
        "/app-health/web/startupz": {"tcpSocket": {"port": port}},
        "/app-health/web/livez": {"grpc": {"port": port, "service": "good"}, "timeoutSeconds": 3},
        "/app-health/web/readyz": {"grpc": {"port": port, "service": "bad"}, "timeoutSeconds": 3},
    }
    async with status(probes) as (ask, _):
        assert [(await ask(path)).status for path in probes] == [200, 200, 500]
    await server.stop(0)


async def test_metrics_of_the_app_are_given_even_when_envoys_are_missing():
    async with app({"/metrics": answer("200 OK", "app_requests 7\n")}) as (port, _):
        scraped = {"scrape": "true", "path": "/metrics", "port": str(port)}
        async with status(metrics=scraped) as (ask, _):
            assert (await ask("/stats/prometheus")).text.endswith("app_requests 7\n")


async def test_only_post_drains_and_quits():
    async with status() as (ask, done):
        assert (await ask("/quitquitquit")).status == 405
        assert (await ask("/drain", "POST")).status == 200
        assert (await ask("/quitquitquit", "POST")).status == 200
    assert done == ["drain", "quit"]


async def test_unknown_paths_and_nonsense():
    async with status() as (ask, _):
        assert (await ask("/app-health/other/livez")).status == 404
        assert (await ask("/")).status == 404
