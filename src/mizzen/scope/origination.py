"""Certificates for TLS that a proxy begins: `credentialName` in DestinationRules.

https://istio.io/latest/docs/reference/config/networking/destination-rule/#ClientTLSSettings
The Secret is one of the proxy's own namespace. A sidecar takes it only by a rule with a workloadSelector, and only when
its Pod's service account may read Secrets there: a rule must not hand out what the workload could not get by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from mizzen.api.base import Model, Problem
from mizzen.api.core import Pod, Secret
from mizzen.api.networking import ClientTLSSettings, DestinationRule
from mizzen.scope.credentials import Secrets, Unusable, bare
from mizzen.scope.destination_rules import asks_for_credentials
from mizzen.scope.model import Credential, Originated, Subset
from mizzen.scope.problems import problem
from mizzen.scope.snapshot import SecretReader, Snapshot, by_namespace

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
    account: str = ""
    """Of a sidecar's Pod; empty: a gateway, whose namespace's Secrets are there for it."""


def origination(snapshot: Snapshot, subsets: tuple[Subset, ...], asker: Asker) -> Origination:
    """The same object as before when nothing it depends on changed."""
    memo = snapshot.memo
    asking = tuple(one for one in subsets if _credential(one))
    if not asking:
        return memo(_untouched, subsets)
    own = snapshot.table(Secret).grouped(by_namespace).get(asker.namespace, ())
    secrets = memo(Secrets, asker.namespace, *own)
    reader = snapshot.get(SecretReader, asker.namespace, asker.account) if asker.account else None
    found = tuple(memo(_one, one, _rule(snapshot, one), secrets, reader, asker.account) for one in asking)
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


def _one(
    subset: Subset, rule: DestinationRule | None, secrets: Secrets, reader: SecretReader | None, account: str
) -> Origination:
    assert subset.policy is not None and subset.policy.tls is not None, "it names a credential"
    try:
        if account:
            _may_have(rule, reader, account, secrets.namespace)
        certificate, roots = _credentials(subset.policy.tls, secrets)
    except Unusable as error:
        found = (_refused(rule, subset, error),) if rule else ()
        return Origination(subsets=(replace(subset, originated=REFUSED),), problems=found)
    taken = Originated(certificate=certificate.name if certificate else "", roots=roots.name if roots else "")
    return Origination(
        subsets=(replace(subset, originated=taken),),
        credentials=tuple(one for one in (certificate, roots) if one is not None),
    )


def _may_have(rule: DestinationRule | None, reader: SecretReader | None, account: str, namespace: str) -> None:
    """Raises Unusable."""
    field = "tls.credentialName"
    if rule is None or rule.spec.workload_selector is None:
        raise Unusable(field, "A sidecar takes a certificate from a Secret only by a rule with a workloadSelector")
    if reader is None:
        raise Unusable(
            field, f"Whether ServiceAccount {account} may read Secrets in namespace {namespace} is not known yet"
        )
    if not reader.allowed:
        raise Unusable(
            field,
            f"ServiceAccount {account} may not list Secrets in namespace {namespace}, so its Pods do not get one; a "
            "Role and RoleBinding allow it",
        )


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
        (pod.metadata.namespace, pod.spec.service_account_name or "default")
        for rule in snapshot.table(DestinationRule)
        for pod in _selected(snapshot, rule)
    )


def _selected(snapshot: Snapshot, rule: DestinationRule) -> Iterator[Pod]:
    selector = rule.spec.workload_selector
    if selector is None or not asks_for_credentials(rule):
        return
    pods: Iterable[Pod] = snapshot.table(Pod).grouped(by_namespace).get(rule.namespace, ())
    yield from (pod for pod in pods if selector.match_labels.items() <= pod.metadata.labels.items())
