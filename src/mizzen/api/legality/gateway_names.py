"""Names of Gateways in VirtualServices."""

from __future__ import annotations

from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.names import is_label, name_problem


def gateway_names(path: str, names: tuple[str, ...]) -> Findings:
    for index, name in enumerate(names):
        here = f"{path}[{index}]"
        namespace, slash, own = name.partition("/")
        if slash:
            if not is_label(namespace) or not is_label(own):
                yield Finding(here, f"{name!r} is not a Gateway; write its name, or namespace/name")
        elif problem := name_problem(name):
            yield Finding(here, f"{problem}; write the Gateway's name, or namespace/name")
        elif "." in name:
            own, namespace = name.split(".")[:2]
            yield warning(here, f"{name!r} is the old form of a Gateway's name; write {namespace}/{own}")
