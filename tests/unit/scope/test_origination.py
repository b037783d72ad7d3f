"""Who gets a certificate out of a Secret, and what is said to those who do not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mizzen.api.base import Metadata
from mizzen.api.core import ConfigMap
from mizzen.scope.origination import config_maps, secret_readers
from mizzen.scope.resolve import outbound
from mizzen.scope.snapshot import SecretReader, Snapshot, present
from mizzen.scope.view import Proxy, outbound_view
from stories import objects, secrets, services

PODS = """
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, labels: {app: sleep}}
spec: {serviceAccountName: sleeper, containers: [{name: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
spec: {containers: [{name: a}]}
"""
SLEEP = Proxy(namespace="default", name="sleep", labels={"app": "sleep"})


SELECTOR = "workloadSelector: {matchLabels: {app: sleep}}, "


def rule(selector: str = SELECTOR, mode: str = "MUTUAL") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank}}
spec: {{host: bank, {selector}trafficPolicy: {{tls: {{mode: {mode}, credentialName: client}}}}}}
{PODS}"""


def mesh(text: str, **credentials: object) -> Snapshot:
    given = {f"{name}.default": wanted for name, wanted in credentials.items()}
    return Snapshot.of([*services({"bank.default": {443: "http"}}), *objects(text), *secrets(given)])  # type: ignore[arg-type]


def reader(allowed: bool) -> SecretReader:
    return SecretReader(metadata=Metadata(name="sleeper", namespace="default"), allowed=allowed)


def refusal(snapshot: Snapshot) -> str:
    """Why the certificate is not given; "" when it is."""
    scope = outbound(snapshot, outbound_view(snapshot, SLEEP))
    (subset,) = scope.subsets
    assert subset.originated is not None
    assert subset.originated.refused is bool(scope.problems) is not bool(scope.credentials)
    return "".join(one.message for one in scope.problems)


@pytest.fixture(scope="module")
def whole() -> Snapshot:
    return mesh(rule(), client={"names": ["us"], "roots": True})


def test_the_service_account_must_be_allowed_to_read_secrets(whole: Snapshot) -> None:
    assert "is not known yet" in refusal(whole)
    assert "ServiceAccount sleeper may not list Secrets in namespace default" in refusal(
        whole.apply(present(reader(False)))
    )
    assert refusal(whole.apply(present(reader(True)))) == ""


def test_authorities_are_no_secret() -> None:
    assert refusal(mesh(rule(mode="SIMPLE"), client={"names": ["us"], "roots": True})) == ""


def test_authorities_come_out_of_a_config_map_for_anybody() -> None:
    rules = rule(selector="", mode="SIMPLE").replace("client", "configmap://default/roots")
    (roots,) = outbound(
        mesh(rule(mode="SIMPLE"), client={"names": ["us"], "roots": True}), outbound_view(mesh(rule()), SLEEP)
    ).credentials
    there = ConfigMap(metadata=Metadata(name="roots", namespace="default"), data={"ca.crt": roots.roots})
    whole = mesh(rules)
    assert config_maps(whole) == {("default", "roots")}
    assert "default/roots is not there" in refusal(whole)
    assert refusal(whole.apply(present(there))) == ""
    assert "holds no authority" in refusal(whole.apply(present(replace(there, data={"x": "y"}))))
    elsewhere = mesh(rules.replace("configmap://default", "configmap://other"))
    assert "of the rule's own namespace" in refusal(elsewhere)


def test_without_a_selector_no_sidecar_gets_it() -> None:
    snapshot = mesh(rule(selector=""), client={"names": ["us"], "roots": True}).apply(present(reader(True)))
    assert "only by a rule with a workloadSelector" in refusal(snapshot)


def test_a_secret_that_is_missing_or_lacks_its_authority_is_named() -> None:
    assert "Secret client is not in namespace default" in refusal(mesh(rule()).apply(present(reader(True))))
    bare = mesh(rule(), client={"names": ["us"]}).apply(present(reader(True)))
    assert "holds no authority" in refusal(bare) and "bank.default.svc.cluster.local:443 get 503" in refusal(bare)


def test_whose_right_is_asked_for(whole: Snapshot) -> None:
    assert secret_readers(whole) == {("default", "sleeper")}
    assert secret_readers(mesh(rule(selector=""))) == frozenset()
    assert outbound_view(whole, SLEEP).account == "sleeper"
    assert outbound_view(mesh(rule(selector="")), SLEEP).account == ""


def test_what_does_not_change_stays_the_same_object(whole: Snapshot) -> None:
    allowed = whole.apply(present(reader(True)))
    view = outbound_view(allowed, SLEEP)
    assert outbound(allowed, view) is outbound(allowed, view)
