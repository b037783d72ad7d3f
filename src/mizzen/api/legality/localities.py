"""Locality settings of load balancers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.networking import (
    LocalityFailover,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    ZoneAwareLbSetting,
)

TOPOLOGY_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def locality_setting(
    path: str, setting: LocalityLoadBalancerSetting | None, outlier: OutlierDetection | None
) -> Findings:
    if setting is None:
        return
    if setting.distribute and setting.failover:
        yield Finding(path, "distribute and failover exclude each other")
        return
    if setting.failover and TOPOLOGY_LABELS.intersection(setting.failover_priority):
        yield Finding(
            f"{path}.failoverPriority", "beside failover, failoverPriority cannot name region, zone or subzone"
        )
        return
    for index, entry in enumerate(setting.distribute):
        yield from _shares(f"{path}.distribute[{index}].to", entry.to)
    yield from _overlaps(f"{path}.distribute", [entry.from_ for entry in setting.distribute])
    if (setting.failover or setting.failover_priority) and outlier is None:
        yield warning(path, "outlier detection policy must be provided for failover: add outlierDetection beside it")
    yield from _failover(f"{path}.failover", setting.failover)


def zone_aware_setting(path: str, setting: ZoneAwareLbSetting | None, outlier: OutlierDetection | None) -> Findings:
    if setting is None:
        return
    if TOPOLOGY_LABELS.intersection(setting.failover_priority):
        yield Finding(f"{path}.failoverPriority", "regions and zones are considered anyway; remove their labels")
    if (setting.failover or setting.failover_priority) and outlier is None:
        yield warning(path, "outlier detection policy must be provided for failover: add outlierDetection beside it")
    yield from _failover(f"{path}.failover", setting.failover)


def _shares(path: str, shares: Mapping[str, int]) -> Findings:
    if any(not 1 <= weight <= 100 for weight in shares.values()):
        yield Finding(path, "a locality's weight must be from 1 to 100")
    elif sum(shares.values()) != 100:
        yield Finding(path, f"the weights add up to {sum(shares.values())}, and must to 100")
    yield from _overlaps(path, shares)


def _overlaps(path: str, localities: Iterable[str]) -> Findings:
    seen: list[str] = []
    for locality in localities:
        if locality.count("*") > 1 or ("*" in locality and not locality.endswith("*")):
            yield Finding(path, f"{locality!r}: a wildcard may only stand at the end")
        elif "" in locality.split("/"):
            yield Finding(path, f"{locality!r} has an empty part; write region, region/zone or region/zone/subzone")
        elif any(_within(locality, other) or _within(other, locality) for other in seen):
            yield Finding(path, f"{locality!r} overlaps with a locality before it")
        seen.append(locality)


def _within(narrow: str, wide: str) -> bool:
    parts = [part for part in wide.split("/") if part != "*"]
    return narrow.split("/")[: len(parts)] == parts


def _failover(path: str, entries: tuple[LocalityFailover, ...]) -> Findings:
    for index, entry in enumerate(entries):
        here = f"{path}[{index}]"
        if entry.from_ == entry.to:
            yield Finding(here, "a region cannot fail over to itself")
        if "/" in entry.from_ + entry.to or "*" in entry.from_ + entry.to:
            yield Finding(here, "failover is between regions, written without zone and without wildcard")
