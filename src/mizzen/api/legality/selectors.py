"""Workload selectors."""

from __future__ import annotations

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.networking import MatchLabels
from mizzen.api.paths import join


def match_labels(path: str, selector: MatchLabels) -> Findings:
    if not selector.match_labels:
        yield warning(path, "workload selector specified without labels: it selects every workload")
    for key, value in selector.match_labels.items():
        here = join(f"{path}.matchLabels", key)
        if not key:
            yield Finding(here, "a label's key must not be empty")
        if "*" in key or "*" in value:
            yield Finding(here, "a selector cannot have wildcards")
