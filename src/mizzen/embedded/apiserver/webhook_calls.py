"""Posting to admission webhooks: a Service's ready endpoints, or a URL, over TLS that the caBundle vouches for."""

from __future__ import annotations

import base64
import ssl
from functools import lru_cache

import aiohttp
import msgspec

from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.embedded.apiserver.webhooks import CallFailed
from mizzen.embedded.apiserver.wire import encode
from mizzen.kube.api import JSON


@lru_cache(maxsize=32)
def _context(bundle: str) -> ssl.SSLContext:
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())


class WebhookCalls:
    """The I/O half of webhooks.py: `post` is what its chain is given."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None

    async def post(self, client_config: JSON, review: JSON, seconds: float) -> JSON:
        """Raises CallFailed, in Kubernetes' words."""
        shown, url, host = self._where(client_config)
        shown = f"{shown}?timeout={seconds:g}s"
        try:
            context = _context(client_config.get("caBundle") or "")
        except (ValueError, ssl.SSLError) as error:
            raise CallFailed(f"unable to load root certificates: {error}") from None
        try:
            return await self._send(url, host, context, review, seconds)
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{shown}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {_short(error)}') from None

    async def _send(self, url: str, host: str, context: ssl.SSLContext, review: JSON, seconds: float) -> JSON:
        if self._session is None:
            # One connection per call: a kept one may lead to a Pod that has gone since.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        headers = {"Content-Type": "application/json", "Accept": "application/json", **({"Host": host} if host else {})}
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.post(
            url, data=encode(review), headers=headers, ssl=context, server_hostname=host or None, timeout=timeout
        ) as answer:
            body = await answer.read()
        if answer.status != 200:
            raise CallFailed(f"failed to call webhook: the server responded with the status code {answer.status}")
        try:
            decoded: JSON = msgspec.json.decode(body, type=dict)
        except msgspec.MsgspecError as error:
            raise CallFailed(f"could not get REST client: the answer is not JSON: {error}") from None
        return decoded

    def _where(self, client_config: JSON) -> tuple[str, str, str]:
        """The URL to show, the URL to dial, and the host name to expect ("" for the URL's own)."""
        if url := client_config.get("url"):
            return url, url, ""
        service = client_config["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        host, path = f"{name}.{namespace}.svc", service.get("path") or "/"
        address, target = self._endpoint(namespace, name, port)
        return f"https://{host}:{port}{path}", f"https://{address}:{target}{path}", host

    def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        entry = self._store.get(Key("services", namespace, name))
        if entry is None:
            raise CallFailed(f'failed to call webhook: service "{name}" not found')
        ports = entry.document()["spec"].get("ports") or ()
        declared = next((each for each in ports if each["port"] == port), None)
        if declared is None:
            raise CallFailed(f'failed to call webhook: no service port {port} found for service "{name}"')
        for each in self._store.entries("endpointslices.discovery.k8s.io", namespace):
            if each.labels.get("kubernetes.io/service-name") != name:
                continue
            if found := _ready_address(each.document(), declared.get("name") or ""):
                return found
        raise CallFailed(f'failed to call webhook: no endpoints available for service "{name}"')

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _ready_address(endpoint_slice: JSON, port_name: str) -> tuple[str, int] | None:
    ports = [each["port"] for each in endpoint_slice.get("ports") or () if (each.get("name") or "") == port_name]
    for endpoint in endpoint_slice.get("endpoints") or ():
        if ports and (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
            address = endpoint["addresses"][0]
            return (f"[{address}]" if ":" in address else address), ports[0]
    return None


def _short(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: {error.certificate_error}"
    return str(error) or type(error).__name__
