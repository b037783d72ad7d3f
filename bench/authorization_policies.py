"""AuthorizationPolicies in numbers: what they cost the control plane, without a cluster.

A thousand, each for a workload of its own in 50 namespaces; and a thousand for one workload. From the API server's
documents to the messages for Envoy. Then one of them changes, while a proxy of every workload is connected.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from statistics import median

from measuring import Row, tell
from mesh_objects import JSON

from mizzen.ads.store import Store
from mizzen.api.authorization import AuthorizationPolicy
from mizzen.api.decode import convert
from mizzen.controlplane.push import touched
from mizzen.controlplane.views import Views
from mizzen.scope.guards import guards
from mizzen.scope.snapshot import Snapshot, present
from mizzen.scope.view import Proxy
from mizzen.xds import network_filters
from mizzen.xds.http_filters import guard_contents

POLICIES, NAMESPACES, ROUNDS, EDITS = 1000, 50, 5, 100


def policy(name: str, app: str, action: str, rules: list[JSON], namespace: str = "default") -> JSON:
    spec = {"selector": {"matchLabels": {"app": app}}, "action": action, "rules": rules}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def for_bystanders(count: int) -> Iterator[JSON]:
    """Policies of a namespace, each for a workload of its own that nobody calls."""
    for number in range(count):
        yield policy(f"bystander-{number}", f"app-{number}", "ALLOW", [rule(number)])


def rule(number: int) -> JSON:
    """As people write them: callers, methods and paths, and a condition."""
    source = {"principals": [f"cluster.local/ns/ns-{number % NAMESPACES}/sa/caller-{number}"], "namespaces": ["front"]}
    operation = {"methods": ["GET", "POST"], "paths": [f"/api/{number}/*", "/healthz"]}
    when = [{"key": "request.headers[x-tenant]", "values": [f"tenant-{number}"]}]
    return {"from": [{"source": source}], "to": [{"operation": operation}], "when": when}


def for_each(count: int) -> list[JSON]:
    return [policy(f"p-{n}", f"app-{n}", "ALLOW", [rule(n)], f"ns-{n % NAMESPACES}") for n in range(count)]


def for_one(count: int) -> list[JSON]:
    return [policy(f"p-{n}", "app-0", "ALLOW", [rule(n)], "ns-0") for n in range(count)]


def _workload(number: int) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"ns-{number % NAMESPACES}", frozenset({("app", f"app-{number}"), ("version", "v1")})


def _translated(documents: Sequence[JSON], workloads: int) -> float:
    """Milliseconds."""
    start = time.process_time()
    snapshot = Snapshot.of([convert(document, AuthorizationPolicy) for document in documents])
    for number in range(workloads):
        found = guards(snapshot, *_workload(number))
        guard_contents(found)
        tuple(network_filters.contents(found))
    return (time.process_time() - start) * 1e3


def cold_translation() -> list[Row]:
    each, one = for_each(POLICIES), for_one(POLICIES)
    return [
        Row(
            f"translate {POLICIES:,} policies, one for each of as many workloads",
            median(_translated(each, POLICIES) for _ in range(ROUNDS)),
            "ms",
            300,
        ),
        Row(
            f"translate {POLICIES:,} policies, all for one workload",
            median(_translated(one, 1) for _ in range(ROUNDS)),
            "ms",
            300,
        ),
    ]


def edits(spaces: int) -> list[Row]:
    """A proxy of each of a thousand workloads is connected, in so many namespaces."""
    documents = [policy(f"p-{n}", f"app-{n}", "ALLOW", [rule(n)], f"ns-{n % spaces}") for n in range(POLICIES)]
    snapshot = Snapshot.of([convert(document, AuthorizationPolicy) for document in documents])
    views = Views(Store(), snapshot)
    proxies = [Proxy(namespace=f"ns-{n % spaces}", name=f"p{n}", labels={"app": f"app-{n}"}) for n in range(POLICIES)]
    all_views = [views.of(proxy, "sidecar") for proxy in proxies]
    for each in all_views:
        views.enter(each)
    spent, reached = [], []
    for number in range(EDITS):
        before = [views.layers(each) for each in all_views]
        edited = convert({**documents[number], "spec": {**documents[number]["spec"], "rules": []}}, AuthorizationPolicy)
        start = time.process_time()
        after = views.snapshot.apply(present(edited))
        views.advance(after, touched(views.snapshot, after, [present(edited)]))
        spent.append((time.process_time() - start) * 1e3)
        now = [views.layers(each) for each in all_views]
        reached.append(
            sum(any(a is not b for a, b in zip(x, y, strict=True)) for x, y in zip(before, now, strict=True))
        )
    where = f"one of {POLICIES:,} in {spaces} namespaces"
    return [
        Row(f"edit of {where}: all views brought up to date", median(spent), "ms"),
        Row(f"edit of {where}: proxies that are told anything", max(reached), "", 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    tell([*cold_translation(), *edits(NAMESPACES), *edits(1)], asked.json)


if __name__ == "__main__":
    main()
