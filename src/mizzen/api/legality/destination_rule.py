"""DestinationRule."""

from __future__ import annotations

from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.legality.names import export_to, host_problem, is_label, labels
from mizzen.api.legality.selectors import match_labels
from mizzen.api.legality.traffic_policy import traffic_policy
from mizzen.api.networking import DestinationRule, SubsetSpec


def destination_rule(obj: DestinationRule) -> Findings:
    spec = obj.spec
    if problem := host_problem(spec.host):
        yield Finding("spec.host", problem)
    yield from traffic_policy("spec.trafficPolicy", spec.traffic_policy)
    yield from _subsets(spec.subsets)
    selector = spec.workload_selector
    yield from export_to("spec.exportTo", spec.export_to, obj.namespace, selects_workloads=selector is not None)
    if selector is not None:
        yield from match_labels("spec.workloadSelector", selector)


def _subsets(subsets: tuple[SubsetSpec, ...]) -> Findings:
    names = [subset.name for subset in subsets]
    for index, subset in enumerate(subsets):
        path = f"spec.subsets[{index}]"
        if subset.name in names[:index]:
            yield Finding(f"{path}.name", f"duplicate subset names: {subset.name} stands twice")
        if not is_label(subset.name):
            yield Finding(f"{path}.name", f"{subset.name!r} is not a subset's name (a DNS label)")
        yield from labels(f"{path}.labels", subset.labels)
        yield from traffic_policy(f"{path}.trafficPolicy", subset.traffic_policy)
