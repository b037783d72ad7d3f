"""Which IP families a Service has, and which of its addresses it keeps: decided before any is given. Pure.

The rules are those of Kubernetes: https://kubernetes.io/docs/concepts/services-networking/dual-stack/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from mizzen.embedded.apiserver.errors import Cause, invalid_value
from mizzen.embedded.apiserver.validation_names import forbidden
from mizzen.kube.api import JSON

SINGLE, PREFERRED, REQUIRED = "SingleStack", "PreferDualStack", "RequireDualStack"
FAMILIES = ("IPv4", "IPv6")
HEADLESS = "None"
_AT_POLICY = "spec.ipFamilyPolicy"
_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


def settle(spec: JSON, before: JSON, configured: Sequence[str]) -> list[Cause]:
    """Fills in `ipFamilyPolicy` and `ipFamilies`, and of the addresses those that were asked for or had before.

    `configured` are the cluster's families, its default first. Answers what is wrong.
    """
    if spec.get("type") == "ExternalName":
        return _without_addresses(spec, before)
    had = {} if before.get("type") == "ExternalName" else before
    if causes := _settle_addresses(spec, had):
        return causes
    if had and _as_preferred_before(spec, had):
        return []
    headless = spec["clusterIP"] == HEADLESS and not spec.get("selector")
    spec["ipFamilyPolicy"] = (
        spec.get("ipFamilyPolicy") or had.get("ipFamilyPolicy") or (REQUIRED if headless else SINGLE)
    )
    _give_up_second(spec, had)
    if causes := [*_contradictions(spec, had), *_inferred(spec, configured)]:
        return causes
    available = FAMILIES if headless else configured
    if causes := list(_beyond(spec, available)):
        return causes
    _complete(spec, available, configured[0])
    return []


def _without_addresses(spec: JSON, before: JSON) -> list[Cause]:
    """What is left from another type goes by itself; what is asked for is refused."""
    asked = [name for name in ("ipFamilies", "ipFamilyPolicy") if spec.get(name) and spec[name] != before.get(name)]
    for name in _FIELDS:
        spec.pop(name, None)
    return [forbidden(f"spec.{name}", "may not be set for ExternalName services") for name in asked]


def _settle_addresses(spec: JSON, had: JSON) -> list[Cause]:
    """`clusterIP` and `clusterIPs` say the same; whoever leaves them out keeps what there is."""
    first, every = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or ())
    old_first, old = had.get("clusterIP") or "", list(had.get("clusterIPs") or ())
    if every == old and first and first != old_first:
        every = [first]
    if not every:
        every = [first] if first and first != old_first else old
    first = first or (every[0] if every else "")
    spec["clusterIP"], spec["clusterIPs"] = first, every
    if every and every[0] != first:
        return [invalid_value("spec.clusterIPs", every, "first value must match `clusterIP`")]
    if old_first and first != old_first:
        return [invalid_value("spec.clusterIPs[0]", first, "may not change once set")]
    return list(_malformed(every, spec.get("ipFamilies") or ()))


def _malformed(every: Sequence[str], families: Sequence[str]) -> Iterator[Cause]:
    if len(every) > 2:
        yield invalid_value("spec.clusterIPs", list(every), "may only hold up to 2 values")
        return
    if HEADLESS in every:
        if len(every) > 1:
            yield invalid_value("spec.clusterIPs", list(every), "must be empty when the first value is 'None'")
        return
    for index, address in enumerate(every):
        try:
            family = family_of(address)
        except ValueError:
            yield invalid_value(f"spec.clusterIPs[{index}]", address, "must be a valid IP address")
            return
        if index < len(families) and families[index] != family:
            why = f"expected an {families[index]} value as indicated by `ipFamilies[{index}]`"
            yield invalid_value(f"spec.clusterIPs[{index}]", address, why)
    if len(every) == 2 and family_of(every[0]) == family_of(every[1]):
        yield invalid_value("spec.clusterIPs", list(every), "may specify no more than one IP for each IP family")


def family_of(address: str) -> str:
    """Raises ValueError for what is no address."""
    return FAMILIES[ip_address(address).version == 6]


def _as_preferred_before(spec: JSON, had: JSON) -> bool:
    """A Service that merely prefers two families is not changed because the cluster has: somebody must say so."""
    same = all(spec.get(name) == had.get(name) for name in ("clusterIPs", "ipFamilies"))
    return same and spec.get("ipFamilyPolicy") == had.get("ipFamilyPolicy") == PREFERRED


def _give_up_second(spec: JSON, had: JSON) -> None:
    """Who goes back to one family and says nothing else gives up the second."""
    if had and spec["ipFamilyPolicy"] == SINGLE:
        for name in ("clusterIPs", "ipFamilies"):
            if spec.get(name) == had.get(name) and len(spec.get(name) or ()) > 1:
                spec[name] = spec[name][:1]


def _contradictions(spec: JSON, had: JSON) -> Iterator[Cause]:
    policy = spec["ipFamilyPolicy"]
    for name, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        values, old = spec.get(name) or [], had.get(name) or []
        several = "cluster IPs" if name == "clusterIPs" else "IP families"
        if policy == SINGLE and len(values) > 1:
            why = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {several} are specified"
            yield invalid_value(_AT_POLICY, policy, why)
        if policy != SINGLE and 0 < len(values) < len(old):
            yield invalid_value(_AT_POLICY, policy, f"must be 'SingleStack' to release the secondary {what}")
        for index, (value, earlier) in enumerate(zip(values, old, strict=False)):
            if value != earlier:
                yield invalid_value(f"spec.{name}[{index}]", value, "may not change once set")


def _inferred(spec: JSON, configured: Sequence[str]) -> Iterator[Cause]:
    """Addresses say their families."""
    families = spec["ipFamilies"] = list(spec.get("ipFamilies") or ())
    for index, address in enumerate(spec["clusterIPs"]):
        if address == HEADLESS or index < len(families):
            continue
        family = family_of(address)
        if family not in configured:
            yield invalid_value(f"spec.clusterIPs[{index}]", address, f"{family} is not configured on this cluster")
        families.append(family)


def _beyond(spec: JSON, available: Sequence[str]) -> Iterator[Cause]:
    if spec["ipFamilyPolicy"] == REQUIRED and len(available) < 2:
        yield invalid_value(_AT_POLICY, REQUIRED, "this cluster is not configured for dual-stack services")
    for index, family in enumerate(spec["ipFamilies"]):
        if family not in available:
            yield invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")


def _complete(spec: JSON, available: Sequence[str], default: str) -> None:
    families = spec["ipFamilies"] or [default]
    if spec["ipFamilyPolicy"] != SINGLE:
        families = [*families, *(each for each in available if each not in families)]
    spec["ipFamilies"] = families
