"""The secret discovery service that Envoy asks over a Unix socket: delta and state of the world.

https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from mizzen.agent import sds_messages as messages
from mizzen.envoy.resources import SECRET, Resource

log = logging.getLogger(__name__)


class Secrets:
    """The secrets of this Pod by name, and a way to wait for the next change."""

    def __init__(self) -> None:
        self._held: dict[str, Resource] = {}
        self._changed = asyncio.Event()

    def publish(self, secrets: Iterable[Resource]) -> None:
        """Puts new versions in place of old ones, together: every open stream hears of it."""
        self._held |= {secret.name: secret for secret in secrets}
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def get(self, name: str) -> Resource | None:
        return self._held.get(name)

    def next_change(self) -> asyncio.Event:
        """Take it before reading; it is set once anything is published after that."""
        return self._changed


class Subscription:
    """One stream's memory: which names it asked for, and which versions it has. Pure."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._known: dict[str, str] = {}
        self._nonce = 0

    def subscribe(self, names: Iterable[str], versions: Iterable[tuple[str, str]] = ()) -> None:
        """Names asked for (again): they are due, except in the versions that the client says it holds."""
        for name in names:
            self._names.add(name)
            self._known.pop(name, None)
        self._known |= dict(versions)

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self._names.discard(name)
            self._known.pop(name, None)

    def ask_only(self, names: Iterable[str]) -> None:
        """State of the world: these names and no others; those that were asked for before are not due again."""
        asked = set(names)
        self.unsubscribe(self._names - asked)
        self.subscribe(asked - self._names)

    def due(self, secrets: Secrets) -> list[Resource]:
        """What the stream lacks, in a stable order; it counts as sent from now on."""
        found = [secret for name in sorted(self._names) if (secret := secrets.get(name))]
        fresh = [secret for secret in found if self._known.get(secret.name) != secret.version]
        self._known |= {secret.name: secret.version for secret in fresh}
        return fresh

    def next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)


Understand: TypeAlias = Callable[[Subscription, Any], None]
Answer: TypeAlias = Callable[[Subscription, list[Resource]], Any]


def secret_service(secrets: Secrets) -> grpc.GenericRpcHandler:
    """`SecretDiscoveryService` for `grpc.aio.Server.add_generic_rpc_handlers`."""
    return grpc.method_handlers_generic_handler(
        messages.SDS_SERVICE,
        {
            "DeltaSecrets": _stream(secrets, messages.DeltaDiscoveryRequest, understand_delta, answer_delta),
            "StreamSecrets": _stream(secrets, messages.DiscoveryRequest, understand_world, answer_world),
        },
    )


async def serve_secrets(secrets: Secrets, path: str) -> grpc.aio.Server:
    """Opens the socket for this uid only: whoever can read it can be this workload. Raises RuntimeError, OSError."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((secret_service(secrets),))
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(before)
    await server.start()
    place.chmod(0o600)
    return server


def is_served(path: str) -> bool:
    """Whether somebody listens at this Unix socket. What a container left behind when it ended does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(path)
        except OSError:
            return False
    return True


def _stream(secrets: Secrets, request_class: Any, understand: Understand, answer: Answer) -> grpc.RpcMethodHandler:
    async def stream(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> None:
        subscription = Subscription()
        changed = asyncio.Event()
        listening = asyncio.create_task(_listen(requests, subscription, understand, changed))
        try:
            while not listening.done() or changed.is_set():
                published = secrets.next_change()
                changed.clear()
                if due := subscription.due(secrets):
                    await context.write(answer(subscription, due))
                await _first_of(changed, published, listening)
            await listening
        finally:
            listening.cancel()

    return grpc.stream_stream_rpc_method_handler(
        stream,
        request_deserializer=request_class.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


async def _listen(
    requests: AsyncIterator[Any], subscription: Subscription, understand: Understand, changed: asyncio.Event
) -> None:
    async for request in requests:
        if request.HasField("error_detail"):
            log.error("Envoy refused a secret: %s", request.error_detail.message)
        understand(subscription, request)
        changed.set()


async def _first_of(changed: asyncio.Event, published: asyncio.Event, listening: asyncio.Task[None]) -> None:
    waits = [asyncio.create_task(changed.wait()), asyncio.create_task(published.wait())]
    try:
        await asyncio.wait([*waits, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def understand_delta(subscription: Subscription, request: Any) -> None:
    subscription.unsubscribe(request.resource_names_unsubscribe)
    versions = ((entry.key, entry.value) for entry in request.initial_resource_versions)
    subscription.subscribe(request.resource_names_subscribe, versions)


def understand_world(subscription: Subscription, request: Any) -> None:
    subscription.ask_only(request.resource_names)


def answer_delta(subscription: Subscription, due: list[Resource]) -> Any:
    resources = [
        {"name": secret.name, "version": secret.version, "resource": {"type_url": SECRET, "value": secret.body}}
        for secret in due
    ]
    return messages.DeltaDiscoveryResponse(type_url=SECRET, resources=resources, nonce=subscription.next_nonce())


def answer_world(subscription: Subscription, due: list[Resource]) -> Any:
    return messages.DiscoveryResponse(
        type_url=SECRET,
        version_info=due[-1].version,
        resources=[{"type_url": SECRET, "value": secret.body} for secret in due],
        nonce=subscription.next_nonce(),
    )
