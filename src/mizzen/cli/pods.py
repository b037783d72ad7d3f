"""The Pod that a person means, and what to say when there is none or it has no proxy."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mizzen.cli import exits

if TYPE_CHECKING:
    from mizzen.cli.options import Where
    from mizzen.kube.api import JSON
    from mizzen.kube.http import HttpApi

PROXY = "istio-proxy"


async def proxied_pod(api: HttpApi, reference: str, where: Where) -> tuple[str, str]:
    """Namespace and name of the Pod that `[TYPE/]NAME[.NAMESPACE]` means. Raises Failure, also without a sidecar."""
    from mizzen.explain.reach import find_pod
    from mizzen.kube.api import WELL_KNOWN, NotFound

    try:
        namespace, name = await find_pod(api, reference, where.namespace or "default")
    except NotFound as error:
        raise exits.Failure(str(error), await nearest(api, reference)) from error
    pod = await api.get(WELL_KNOWN.pods, name, namespace)
    if not has_proxy(pod):
        raise exits.Failure(
            f"Pod {name} in namespace {namespace} has no sidecar",
            f"`kubectl label namespace {namespace} istio-injection=enabled` and a restart of the Pod give it one",
        )
    return namespace, name


def has_proxy(pod: JSON) -> bool:
    spec = pod["spec"]
    return any(one["name"] == PROXY for one in (*spec["containers"], *spec.get("initContainers", ())))


async def nearest(api: HttpApi, reference: str) -> str:
    """Where a Pod of that name is instead, or which name is near."""
    from mizzen.kube.api import WELL_KNOWN

    wanted = reference.rpartition("/")[2].partition(".")[0]
    pods = [pod["metadata"] for pod in (await api.list(WELL_KNOWN.pods)).items]
    elsewhere = [one for one in pods if one["name"] == wanted or one["name"].startswith(f"{wanted}-")]
    names = {f"{one['name']}.{one['namespace']}": one for one in pods}
    close = [f"{one['name']}.{one['namespace']}" for one in elsewhere] or difflib.get_close_matches(
        wanted, names, 1, 0.5
    )
    return f"did you mean {close[0]}?" if close else "`kubectl get pods -A` lists them"
