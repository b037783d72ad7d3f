"""Destinations and their weights, in rules of every kind."""

from __future__ import annotations

from collections.abc import Sequence

from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.legality.names import host_problem, is_label, port
from mizzen.api.networking import Destination


def destination(path: str, wanted: Destination) -> Findings:
    if wanted.host == "*":
        yield Finding(f"{path}.host", "`*` is not a destination; name a service")
    elif problem := host_problem(wanted.host):
        yield Finding(f"{path}.host", problem)
    if wanted.subset and not is_label(wanted.subset):
        yield Finding(f"{path}.subset", f"{wanted.subset!r} is not a subset's name (a DNS label)")
    if wanted.port is not None:
        yield from port(f"{path}.port.number", wanted.port.number)


def total_weight(path: str, weights: Sequence[int]) -> Findings:
    for index, weight in enumerate(weights):
        if weight < 0:
            yield Finding(f"{path}[{index}].weight", f"weight {weight} is below 0")
    if len(weights) > 1 and sum(weights) == 0:
        yield Finding(path, "total destination weight = 0: of several destinations one must have a weight above 0")
