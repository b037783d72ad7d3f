"""metrics.k8s.io/v1beta1, made of two readings of the node's counters.

https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mizzen.embedded.apiserver import errors, selectors, strategy
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import Request
from mizzen.kube.api import JSON

_ContainerKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Usage:
    """Nanocores, bytes, and the time between the two readings."""

    cpu: int
    memory: int
    at: datetime
    window: float


@dataclass(slots=True)
class UsageRates:
    """Turns counters of CPU time into rates, from one question to the next."""

    _last: dict[_ContainerKey, tuple[datetime, int]] = field(default_factory=dict)

    def update(self, stats: JSON, now: datetime) -> dict[_ContainerKey, Usage]:
        found: dict[_ContainerKey, Usage] = {}
        counters: dict[_ContainerKey, tuple[datetime, int]] = {}
        for pod in stats["pods"]:
            for container in pod["containers"]:
                key = (pod["namespace"], pod["name"], container["name"])
                spent = int(container["cpu_nanoseconds"])
                before, earlier = self._last.get(key, (now, spent))
                seconds = (now - before).total_seconds()
                rate = int((spent - earlier) / seconds) if seconds > 0 else 0
                found[key] = Usage(max(rate, 0), int(container["memory_bytes"]), now, seconds)
                counters[key] = (now, spent)
        self._last = counters
        return found


def document(store: Store, request: Request, target: Target, rates: dict[_ContainerKey, Usage]) -> JSON:
    """NodeMetrics or PodMetrics, one or a list. Raises 404."""
    if target.resource.plural == "nodes":
        items = [_node_metrics(entry.document(), rates) for entry in store.entries("nodes")]
    else:
        items = _pod_metrics(store, request, target, rates)
    if not target.name:
        kind = f"{target.resource.kind}List"
        return {"kind": kind, "apiVersion": target.resource.api_version, "metadata": {}, "items": items}
    for item in items:
        if item["metadata"]["name"] == target.name:
            return item
    raise errors.not_found(target.resource, target.name)


def _node_metrics(node: JSON, rates: dict[_ContainerKey, Usage]) -> JSON:
    total = Usage(sum(each.cpu for each in rates.values()), sum(each.memory for each in rates.values()), *_times(rates))
    return {**_head("NodeMetrics", node["metadata"], total), "usage": _usage(total)}


def _times(rates: dict[_ContainerKey, Usage]) -> tuple[datetime, float]:
    return next(((each.at, each.window) for each in rates.values()), (datetime.fromtimestamp(0).astimezone(), 0.0))


def _pod_metrics(store: Store, request: Request, target: Target, rates: dict[_ContainerKey, Usage]) -> list[JSON]:
    wanted = selectors.parse_labels(request.parameter("labelSelector"))
    items: list[JSON] = []
    for namespace, name in dict.fromkeys(key[:2] for key in rates):
        entry = store.get(Key("pods", namespace, name))
        if entry is None or (target.namespace and namespace != target.namespace):
            continue
        if selectors.matches_labels(wanted, entry.labels):
            mine = {key[2]: usage for key, usage in rates.items() if key[:2] == (namespace, name)}
            containers = [{"name": container, "usage": _usage(usage)} for container, usage in mine.items()]
            head = _head("PodMetrics", entry.document()["metadata"], next(iter(mine.values())))
            items.append({**head, "containers": containers})
    return items


def _head(kind: str, metadata: JSON, usage: Usage) -> JSON:
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "creationTimestamp") if key in metadata}
    times = {"timestamp": strategy.timestamp(usage.at), "window": f"{usage.window:.3f}s"}
    return {"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": kept, **times}


def _usage(usage: Usage) -> JSON:
    return {"cpu": f"{usage.cpu}n", "memory": f"{usage.memory // 1024}Ki"}
