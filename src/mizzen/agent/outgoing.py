"""HTTP calls that the agent makes inside its Pod: to Envoy's admin, to the app's probes and metrics."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")


async def call(
    method: str,
    port: int,
    path: str,
    *,
    host: str = "127.0.0.1",
    source: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    tls: bool = False,
) -> Reply:
    """One request on a connection of its own. Raises OSError when there is no answer (http.client's errors included).

    `source` is the address to call from. With `tls` nothing is verified: a probe asks whether the app answers.
    """
    return await asyncio.to_thread(_call, method, (host, port), path, source, headers or {}, timeout, tls)


def _call(
    method: str,
    address: tuple[str, int],
    path: str,
    source: str | None,
    headers: Mapping[str, str],
    timeout: float,
    tls: bool,
) -> Reply:
    bound = (source, 0) if source else None
    connection: http.client.HTTPConnection
    if tls:
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(*address, timeout=timeout, source_address=bound, context=context)
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout, source_address=bound)
    try:
        connection.request(method, path, headers={"Connection": "close", **headers})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, fields, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{address[0]}:{address[1]} does not answer in HTTP: {error!r}") from error
    finally:
        connection.close()
