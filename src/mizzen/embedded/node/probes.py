"""Probes as a kubelet makes them: http, tcp and grpc from the bridge to the Pod's address, exec inside the container.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import grpc.aio
from google.protobuf.message import DecodeError

from mizzen.ca.messages import message_classes
from mizzen.kube.api import JSON
from mizzen.kube.authorities import unread

with unread():
    import aiohttp

Exec: TypeAlias = Callable[[Sequence[str], float], Awaitable[tuple[int, str]]]
"""Run a command in the container with a time limit in seconds; its exit code and output. Raises TimeoutError."""
Kind: TypeAlias = Literal["startup", "liveness", "readiness"]

SHORTEST_PERIOD = 0.1
_BODY_SHOWN = 1024
_HEALTH = message_classes(
    "node.grpc.health.v1",
    {"HealthCheckRequest": {"service": (1, "string")}, "HealthCheckResponse": {"status": (1, "int32")}},
)
_SERVING_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
"""https://github.com/grpc/grpc/blob/master/doc/health-checking.md"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The numbers of a probe, in seconds and counts, with Kubernetes' defaults."""

    delay: float
    period: float
    timeout: float
    successes: int
    failures: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`answered`: over HTTP, with whatever status."""

    ok: bool
    message: str = ""
    answered: bool = False


def schedule(probe: JSON) -> Schedule:
    return Schedule(
        delay=probe.get("initialDelaySeconds") or 0,
        period=probe.get("periodSeconds") or 10,
        timeout=probe.get("timeoutSeconds") or 1,
        successes=probe.get("successThreshold") or 1,
        failures=probe.get("failureThreshold") or 3,
    )


class Verdict:
    """Counts outcomes: the verdict changes after so many successes or failures in a row. Pure."""

    def __init__(self, plan: Schedule, *, initial: bool | None) -> None:
        self.value = initial
        self._plan = plan
        self._row = 0
        self._last: bool | None = None

    def take(self, ok: bool) -> bool | None:
        """The verdict after one more outcome; None as long as there is none."""
        self._row = self._row + 1 if ok == self._last else 1
        self._last = ok
        needed = self._plan.successes if ok else self._plan.failures
        if self._row >= needed:
            self.value = ok
        return self.value


def next_delay(kind: Kind, plan: Schedule, age: float, ready: bool) -> float:
    """Seconds until the next attempt.

    Readiness and startup are tried quickly while a young container is not ready yet: waiting out a 10 s period for a
    server that is up after 0.3 s is what makes clusters slow to come up. Everything else goes by the book.
    """
    if kind == "liveness" or ready:
        return plan.period
    eager = max(SHORTEST_PERIOD, age / 5)
    return min(plan.period, eager)


def port_number(container: JSON, port: int | str) -> int:
    """A port by number or by the name of a container port. Raises ValueError."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    raise ValueError(f"the container has no port named {port!r}")


class Prober:
    """Makes single attempts. One for all Pods: it keeps no connection open."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def attempt(self, probe: JSON, container: JSON, address: str, run: Exec) -> Outcome:
        """One attempt within the probe's timeout."""
        limit = schedule(probe).timeout
        try:
            async with asyncio.timeout(limit):
                return await self._attempt(probe, container, address, run, limit)
        except TimeoutError:
            return Outcome(False, f"timed out after {limit:g}s")
        except (OSError, ValueError, aiohttp.ClientError) as error:
            return Outcome(False, str(error) or type(error).__name__)

    async def _attempt(self, probe: JSON, container: JSON, address: str, run: Exec, limit: float) -> Outcome:
        if http := probe.get("httpGet"):
            return await self._http(http, container, address)
        if tcp := probe.get("tcpSocket"):
            return await _tcp(tcp.get("host") or address, port_number(container, tcp["port"]))
        if rpc := probe.get("grpc"):
            return await _grpc(address, int(rpc["port"]), rpc.get("service") or "")
        code, output = await run(probe["exec"].get("command") or [], limit)
        return Outcome(code == 0, output.strip())

    async def _http(self, spec: JSON, container: JSON, address: str) -> Outcome:
        host, port = spec.get("host") or address, port_number(container, spec["port"])
        path = spec.get("path") or "/"
        url = f"{(spec.get('scheme') or 'HTTP').lower()}://{host}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {"User-Agent": "kube-probe/1.32", "Accept": "*/*"}
        headers |= {each["name"]: each.get("value") or "" for each in spec.get("httpHeaders") or ()}
        if not self._session:
            connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=self._tls)
            self._session = aiohttp.ClientSession(connector=connector)
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status < 400:
                return Outcome(True, answered=True)
            body = (await response.content.read(_BODY_SHOWN)).decode(errors="replace").strip()
            message = f"HTTP probe failed with statuscode: {response.status} {body}".rstrip()
            return Outcome(False, message, answered=True)


async def _tcp(host: str, port: int) -> Outcome:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return Outcome(True)


async def _grpc(address: str, port: int, service: str) -> Outcome:
    request = _HEALTH["HealthCheckRequest"](service=service).SerializeToString()
    async with grpc.aio.insecure_channel(f"{address}:{port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await check(request)
        except grpc.aio.AioRpcError as error:
            return Outcome(False, f"service unhealthy: {error.code().name} {error.details()}")
    try:
        status = _HEALTH["HealthCheckResponse"].FromString(answer).status
    except DecodeError as error:
        return Outcome(False, f"service unhealthy: {error}")
    name = _SERVING_STATUS.get(status, str(status))
    return Outcome(name == "SERVING", "" if name == "SERVING" else f'service unhealthy (responded with "{name}")')
