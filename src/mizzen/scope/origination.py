"""Certificates for TLS that a proxy begins: `credentialName` in DestinationRules.

https://istio.io/latest/docs/reference/config/networking/destination-rule/#ClientTLSSettings
The Secret is one of the proxy's own namespace, and a key is handed out only to whose service account may list Secrets
there: a rule must not give what the workload could not get by itself. A sidecar takes one only by a rule with a
workloadSelector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from mizzen.api.base import Model, Problem
from mizzen.api.core import ConfigMap, Pod
from mizzen.api.networking import ClientTLSSettings, DestinationRule
from mizzen.scope.credentials import Secrets, Unusable, bare, config_map, public_roots, secrets_for
from mizzen.scope.destination_rules import asks_for_credentials, credential_names
from mizzen.scope.model import Credential, Originated, Subset
from mizzen.scope.problems import problem
from mizzen.scope.snapshot import Snapshot, Table, by_namespace

_TLS = ("SIMPLE", "MUTUAL")
REFUSED = Originated(refused=True)


class Origination(Model):
    """Clusters with their credentials in place."""

    subsets: tuple[Subset, ...]
    credentials: tuple[Credential, ...] = ()
    problems: tuple[Problem, ...] = ()


class Asker(Model):
    """Whose clusters they are."""

    namespace: str
    account: str
    sidecar: bool = False


def origination(snapshot: Snapshot, subsets: tuple[Subset, ...], asker: Asker) -> Origination:
    """The same object as before when nothing it depends on changed."""
    memo = snapshot.memo
    asking = tuple(one for one in subsets if _credential(one))
    if not asking:
        return memo(_untouched, subsets)
    secrets = secrets_for(snapshot, asker.namespace, asker.account)
    found = tuple(
        memo(_one, one, _rule(snapshot, one), secrets, asker.sidecar, _config_map(snapshot, one)) for one in asking
    )
    return memo(_together, subsets, *found)


def _untouched(subsets: tuple[Subset, ...]) -> Origination:
    return Origination(subsets=subsets)


def _together(subsets: tuple[Subset, ...], *found: Origination) -> Origination:
    filled = {one.subsets[0].cluster: one.subsets[0] for one in found}
    credentials = {each.name: each for one in found for each in one.credentials}
    return Origination(
        subsets=tuple(filled.get(one.cluster, one) for one in subsets),
        credentials=tuple(credentials.values()),
        problems=tuple(dict.fromkeys(each for one in found for each in one.problems)),
    )


def _credential(subset: Subset) -> str:
    tls = subset.policy.tls if subset.policy else None
    return tls.credential_name if tls is not None and tls.mode in _TLS else ""


def _rule(snapshot: Snapshot, subset: Subset) -> DestinationRule | None:
    source = subset.source
    return snapshot.get(DestinationRule, source.namespace, source.name) if source else None


def _config_map(snapshot: Snapshot, subset: Subset) -> ConfigMap | None:
    place = config_map(_credential(subset))
    return snapshot.get(ConfigMap, *place) if place else None


def _one(
    subset: Subset, rule: DestinationRule | None, secrets: Secrets, sidecar: bool, public: ConfigMap | None
) -> Origination:
    assert subset.policy is not None and subset.policy.tls is not None, "it names a credential"
    try:
        certificate, roots = _given(rule, subset.policy.tls, secrets, sidecar, public)
    except Unusable as error:
        found = (_refused(rule, subset, error),) if rule else ()
        return Origination(subsets=(replace(subset, originated=REFUSED),), problems=found)
    taken = Originated(certificate=certificate.name if certificate else "", roots=roots.name if roots else "")
    return Origination(
        subsets=(replace(subset, originated=taken),),
        credentials=tuple(one for one in (certificate, roots) if one is not None),
    )


def _given(
    rule: DestinationRule | None, tls: ClientTLSSettings, secrets: Secrets, sidecar: bool, public: ConfigMap | None
) -> tuple[Credential | None, Credential | None]:
    """Certificate and authorities. Raises Unusable."""
    place = config_map(tls.credential_name)
    if place is None:
        if sidecar:
            _require_selector(rule)
        return _credentials(tls, secrets)
    if rule is None or place[0] != rule.namespace:
        raise Unusable("tls.credentialName", "A ConfigMap with authorities is one of the rule's own namespace")
    if tls.mode == "MUTUAL":
        raise Unusable("tls.credentialName", "A ConfigMap gives no certificate")
    return None, public_roots("tls.credentialName", tls.credential_name, public)


def config_maps(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    """Namespaces and names of the ConfigMaps that rules take authorities from."""
    return snapshot.memo(_config_maps, snapshot.table(DestinationRule))


def _config_maps(rules: Table[DestinationRule]) -> frozenset[tuple[str, str]]:
    found = (config_map(name) for rule in rules for name in credential_names(rule))
    return frozenset(place for place in found if place)


def _require_selector(rule: DestinationRule | None) -> None:
    """Raises Unusable."""
    if rule is None or rule.spec.workload_selector is None:
        reason = "A sidecar takes a certificate from a Secret only by a rule with a workloadSelector"
        raise Unusable("tls.credentialName", reason)


def _credentials(tls: ClientTLSSettings, secrets: Secrets) -> tuple[Credential | None, Credential | None]:
    """Certificate and authorities. Raises Unusable."""
    name = bare(tls.credential_name)
    certificate = secrets.certificate("tls.credentialName", name) if tls.mode == "MUTUAL" else None
    return certificate, None if tls.insecure_skip_verify else secrets.roots("tls.credentialName", name)


def _refused(rule: DestinationRule, subset: Subset, error: Unusable) -> Problem:
    return problem(
        rule,
        "IST0101",
        f"spec.trafficPolicy.{error.field}",
        f"{error}. Until then calls to {subset.host}:{subset.port} get 503 there.",
    )


def secret_readers(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    """Namespaces and service accounts of sidecars that a rule gives certificates out of Secrets."""
    return frozenset(
        (pod.metadata.namespace, pod.account)
        for rule in snapshot.table(DestinationRule)
        for pod in _selected(snapshot, rule)
    )


def _selected(snapshot: Snapshot, rule: DestinationRule) -> Iterator[Pod]:
    selector = rule.spec.workload_selector
    if selector is None or not asks_for_credentials(rule):
        return
    pods: Iterable[Pod] = snapshot.table(Pod).grouped(by_namespace).get(rule.namespace, ())
    yield from (pod for pod in pods if selector.match_labels.items() <= pod.metadata.labels.items())
