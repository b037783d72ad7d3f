"""Options that istioctl accepts on every verb, and the cluster they lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi

R = TypeVar("R")


@dataclass(frozen=True)
class Where:
    """Which cluster and namespaces a verb is about."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    istio_namespace: str

    async def connect(self) -> HttpApi:
        from mizzen.cli.clusters import connect

        return await connect(self.kubeconfig, self.context)


def where(function: Callable[..., R]) -> Callable[..., R]:
    """Adds `-c`, `--context`, `-n` and `-i`, which may stand before the verb, too; the verb gets them as `where`."""

    @click.option("-c", "--kubeconfig", metavar="FILE", help="Kubeconfig; default is KUBECONFIG or ~/.kube/config.")
    @click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
    @click.option("-n", "--namespace", metavar="NS", help="Namespace.")
    @click.option("-i", "--istioNamespace", "istio_namespace", metavar="NS", help="Default: istio-system.")
    @wraps(function)
    def with_where(
        *args: Any,
        kubeconfig: str | None,
        context: str | None,
        namespace: str | None,
        istio_namespace: str | None,
        **kwargs: Any,
    ) -> R:
        before = {"istio_namespace": "istio-system", **(click.get_current_context().find_root().obj or {})}
        given = {
            "kubeconfig": kubeconfig,
            "context": context,
            "namespace": namespace,
            "istio_namespace": istio_namespace,
        }
        said = {**dict.fromkeys(given), **before, **{key: value for key, value in given.items() if value}}
        return function(*args, where=Where(**said), **kwargs)

    return with_where


def with_api(where: Where, use: Callable[[HttpApi], Awaitable[R]]) -> R:
    """Connect, do, disconnect."""

    async def session() -> R:
        api = await where.connect()
        try:
            return await use(api)
        finally:
            await api.close()

    return asyncio.run(session())
