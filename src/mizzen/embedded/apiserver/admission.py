"""What every write passes: the server's own plugins, then webhooks, then the server's last touches and validation.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mizzen.embedded import placement
from mizzen.embedded.apiserver import (
    bodies,
    certificate_requests,
    crds,
    defaults,
    errors,
    escalation,
    pods,
    strategy,
    validation,
    without_effect,
)
from mizzen.embedded.apiserver.allocation import Allocations
from mizzen.embedded.apiserver.operation import Call, Operation
from mizzen.embedded.apiserver.policies import Policies
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.kube.api import JSON

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
NAMESPACE_FINALIZER = "kubernetes"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
NEEDS_SPEC = frozenset(
    {
        "pods",
        "services",
        "customresourcedefinitions.apiextensions.k8s.io",
        "certificatesigningrequests.certificates.k8s.io",
    }
)
"""What is prepared from its spec, before validation can say that there is none."""
INGRESSES = "ingresses.networking.k8s.io"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
STORED_ONLY = frozenset(
    {
        "horizontalpodautoscalers.autoscaling",
        "resourcequotas",
        "limitranges",
        "replicationcontrollers",
    }
)
"""Kinds that clients need to find, and that nothing here honours yet: whoever creates one is told."""
_WORKLOADS = ("deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps")
MAKES_PODS = frozenset({"pods", *_WORKLOADS, "jobs.batch", "cronjobs.batch"})


class Webhooks(Protocol):
    async def mutate(self, operation: Operation) -> bool:
        """Whether the object was changed."""
        ...

    async def validate(self, operation: Operation) -> None: ...


@dataclass(slots=True)
class AdmissionChain:
    """Implements `objects.Admission`."""

    store: Store
    webhooks: Webhooks
    policies: Policies
    allocations: Allocations
    rights: Rights
    now: Callable[[], datetime]

    def default(self, kind: ResourceType, obj: JSON) -> None:
        """Owned by whoever writes the object; what comes later, admission's, is nobody's."""
        obj.update(defaults.default(kind.resource, obj, bodies.structural_schema(kind)))

    async def mutate(self, operation: Operation) -> None:
        self._check_namespace(operation)
        if operation.obj is None:
            return
        self._own_plugins(operation)
        if await self.webhooks.mutate(operation):
            operation.obj = bodies.fit(operation.kind, operation.obj, Call())
            self.default(operation.kind, operation.obj)
            self._own_plugins(operation)

    async def validate(self, operation: Operation) -> None:
        if operation.verb == "CREATE" and operation.kind.storage in STORED_ONLY:
            operation.call.warnings.append(f"{operation.kind.resource.kind} is stored, but not acted upon here")
        if operation.obj is not None:
            if operation.kind.storage in MAKES_PODS and not operation.subresource:
                operation.call.warnings.extend(without_effect.warnings(operation.obj))
            validation.check(operation)
            escalation.check(self.rights, operation)
            certificate_requests.check(self.rights, operation)
        self.policies.check(operation)
        await self.webhooks.validate(operation)

    def prepare(self, operation: Operation) -> None:
        prepare = self._preparations().get(operation.kind.storage)
        if prepare and not operation.subresource:
            assert operation.obj is not None
            if operation.kind.storage in NEEDS_SPEC:
                validation.require_spec(operation)
            prepare(operation, operation.obj)

    def release(self, operation: Operation) -> None:
        if operation.kind.storage != "services" or operation.obj is None:
            return
        if operation.old is None:
            self.allocations.release(operation.obj["metadata"]["uid"])
        else:
            self.allocations.restore(operation.old["metadata"]["uid"], operation.old)

    def _preparations(self) -> dict[str, Callable[[Operation, JSON], None]]:
        return {
            "pods": self._prepare_pod,
            "services": self._prepare_service,
            "namespaces": self._prepare_namespace,
            "customresourcedefinitions.apiextensions.k8s.io": self._prepare_crd,
            "secrets": _prepare_secret,
            "jobs.batch": _prepare_job,
            "certificatesigningrequests.certificates.k8s.io": _prepare_csr,
        }

    # -- plugins -----------------------------------------------------------------------------------------------

    def _check_namespace(self, operation: Operation) -> None:
        resource = operation.kind.resource
        if operation.verb == "DELETE":
            if operation.kind.storage == "namespaces" and operation.name in IMMORTAL:
                raise errors.forbidden(resource, operation.name, "this namespace may not be deleted")
            return
        if operation.verb != "CREATE" or not resource.namespaced:
            return
        entry = self.store.get(Key("namespaces", "", operation.namespace))
        if entry is None:
            raise errors.failure(
                404,
                "NotFound",
                f'namespaces "{operation.namespace}" not found',
                {"name": operation.namespace, "kind": "namespaces"},
            )
        if "deletionTimestamp" in entry.document()["metadata"]:
            raise _terminating(operation)

    def _own_plugins(self, operation: Operation) -> None:
        if operation.verb != "CREATE" or operation.obj is None:
            return
        if operation.kind.storage == INGRESSES:
            self._use_default_class(operation.obj)
        if operation.kind.storage == "persistentvolumeclaims":
            _protect_claim(operation.obj)
        if operation.kind.storage != "pods":
            return
        pod = operation.obj
        if not isinstance(pod.get("spec"), dict):
            return
        self._use_service_account(operation, pod)
        pods.add_tolerations(pod)
        self._set_priority(operation, pod)

    def _use_default_class(self, ingress: JSON) -> None:
        """The newest of the IngressClasses that are marked as the default one."""
        annotations = ingress["metadata"].get("annotations") or {}
        spec = ingress.get("spec")
        if not isinstance(spec, dict) or spec.get("ingressClassName") is not None or CLASS_ANNOTATION in annotations:
            return
        classes = [one.document()["metadata"] for one in self.store.entries("ingressclasses.networking.k8s.io")]
        marked = [one for one in classes if (one.get("annotations") or {}).get(DEFAULT_CLASS) == "true"]
        by_name = sorted(marked, key=lambda one: str(one["name"]))
        for newest in sorted(by_name, key=lambda one: str(one["creationTimestamp"]), reverse=True)[:1]:
            spec["ingressClassName"] = newest["name"]

    def _use_service_account(self, operation: Operation, pod: JSON) -> None:
        name = pod["spec"].get("serviceAccountName") or pod["spec"].get("serviceAccount") or "default"
        entry = self.store.get(Key("serviceaccounts", operation.namespace, name))
        if entry is None and name != "default":
            why = f'error looking up service account {operation.namespace}/{name}: serviceaccount "{name}" not found'
            raise errors.forbidden(operation.kind.resource, operation.name, why)
        suffix = "".join(secrets.choice(strategy.GENERATE_ALPHABET) for _ in range(5))
        pods.use_service_account(pod, entry.document() if entry else None, suffix)

    def _set_priority(self, operation: Operation, pod: JSON) -> None:
        stored = self.store.entries("priorityclasses.scheduling.k8s.io")
        try:
            pods.set_priority(pod, {**pods.SYSTEM_CLASSES, **{each.key.name: each.document() for each in stored}})
        except KeyError as error:
            why = f"no PriorityClass with name {error.args[0]} was found"
            raise errors.forbidden(operation.kind.resource, operation.name, why) from None

    # -- preparations ------------------------------------------------------------------------------------------

    def _prepare_pod(self, operation: Operation, pod: JSON) -> None:
        if operation.old is not None:
            return
        node = self.store.get(Key("nodes", "", placement.NODE_NAME))
        pod["status"] = {"phase": "Pending", "qosClass": pods.qos_class(pod["spec"])}
        now = strategy.timestamp(self.now())
        if placement.waits_for_us(pod):
            pods.bind(pod, placement.why_not_on(pod, node.document() if node else None), now)
        elif pod["spec"].get("schedulingGates"):
            pods.hold_at_gates(pod, now)

    def _prepare_service(self, operation: Operation, service: JSON) -> None:
        causes = self.allocations.allocate(service, operation.old)
        if causes:
            raise errors.invalid(operation.kind.resource, operation.name, causes)

    def _prepare_namespace(self, operation: Operation, namespace: JSON) -> None:
        if operation.old is None:
            namespace.setdefault("spec", {})["finalizers"] = [NAMESPACE_FINALIZER]
            labels = namespace["metadata"].setdefault("labels", {})
            labels["kubernetes.io/metadata.name"] = operation.name
        else:
            namespace["spec"] = operation.old.get("spec", {})

    def _prepare_crd(self, operation: Operation, crd: JSON) -> None:
        causes = crds.problems(crd)
        if causes:
            raise errors.invalid(operation.kind.resource, operation.name, causes)
        operation.call.warnings.extend(crds.warnings(crd))
        crds.accept(crd, operation.old, strategy.timestamp(self.now()))


def _protect_claim(claim: JSON) -> None:
    """A controller takes the finalizer away when no Pod uses a claim that is deleted."""
    finalizers = claim["metadata"].setdefault("finalizers", [])
    if CLAIM_FINALIZER not in finalizers:
        finalizers.append(CLAIM_FINALIZER)


def _prepare_secret(operation: Operation, secret: JSON) -> None:
    import base64

    for key, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()
    secret.setdefault("type", "Opaque")


def _prepare_job(operation: Operation, job: JSON) -> None:
    """A Job selects its Pods by its uid, unless the user wants to see to that (`manualSelector`)."""
    spec, metadata = job["spec"], job["metadata"]
    if operation.old is not None or spec.get("manualSelector") or spec.get("selector"):
        return
    by_uid, by_name = {"controller-uid": metadata["uid"]}, {"job-name": metadata["name"]}
    names = {f"batch.kubernetes.io/{key}": value for key, value in (by_uid | by_name).items()}
    template = spec["template"].setdefault("metadata", {})
    template["labels"] = {**(template.get("labels") or {}), **by_uid, **by_name, **names}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}


def _prepare_csr(operation: Operation, request: JSON) -> None:
    if operation.old is not None:
        request["spec"] = operation.old["spec"]
        return
    user = operation.call.user
    request["spec"].update(username=user.name, groups=list(user.groups))


def _terminating(operation: Operation) -> Exception:
    namespace = operation.namespace
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = errors.Cause("NamespaceTerminating", "metadata.namespace", f"namespace {namespace} is being terminated")
    return errors.forbidden(operation.kind.resource, operation.name, why, [cause])
