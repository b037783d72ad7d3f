"""The Kubernetes API as Mizzen sees it: one protocol, several transports.

`http.HttpApi` speaks to any API server; `memory.MemoryApi` is for tests; the embedded API server offers its controllers
an in-process one. Objects are the API's own JSON documents (`dict`): who wants types decodes them with `mizzen.api`.
Verbs and their semantics: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

JSON: TypeAlias = dict[str, Any]
PatchType: TypeAlias = Literal["json", "merge", "strategic", "apply"]
Propagation: TypeAlias = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type: what a URL path names. `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scoped = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{root}{scoped}/{self.plural}", name, subresource) if part)


@dataclass(frozen=True, slots=True)
class ObjectList:
    """One consistent reading of a collection; watch from `resource_version` to follow it."""

    items: list[JSON]
    resource_version: str
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK (whose object carries only a resourceVersion)."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: JSON


@dataclass(frozen=True, slots=True)
class Selector:
    """What `labelSelector` and `fieldSelector` say, in their wire form."""

    labels: str = ""
    fields: str = ""


@dataclass(frozen=True, slots=True)
class Preconditions:
    uid: str | None = None
    resource_version: str | None = None


class ApiError(Exception):
    """The API server said no. `status` is its Status document; `code` and `reason` are the parts one decides on."""

    def __init__(self, code: int, reason: str, message: str, status: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status: Mapping[str, Any] = status or {}


class NotFound(ApiError):
    """404: the object, or the resource type, is not there."""


class AlreadyExists(ApiError):
    """409 AlreadyExists: create found the name taken."""


class Conflict(ApiError):
    """409 Conflict: the object changed since it was read, or another field manager owns the field."""


class Expired(ApiError):
    """410: the revision to watch or continue from is no longer kept. List again."""


class Unreachable(ApiError):
    """No answer: connection refused, reset or timed out. Code 0."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    manager: str = "mizzen"
    dry_run: bool = False
    force: bool = False
    """Only for apply: take fields over from other managers."""


DEFAULT_WRITE = WriteOptions()
EVERYTHING = Selector()


class Api(Protocol):
    """What control plane, controllers, node and CLI ask of a cluster. Errors are `ApiError`s."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JSON: ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        limit: int | None = None,
    ) -> ObjectList: ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version`, with bookmarks, until the server ends it. Raises Expired."""
        ...

    async def create(
        self, resource: Resource, obj: JSON, namespace: str | None = None, options: WriteOptions = DEFAULT_WRITE
    ) -> JSON: ...

    async def replace(
        self,
        resource: Resource,
        obj: JSON,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        """PUT; with `metadata.resourceVersion` set it is optimistic and may raise Conflict."""
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        type: PatchType = "merge",
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON: ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
        preconditions: Preconditions | None = None,
    ) -> JSON: ...

    async def post_subresource(
        self, resource: Resource, name: str, subresource: str, body: JSON, namespace: str | None = None
    ) -> JSON:
        """POST to a subresource: `token`, `binding`, `eviction`."""
        ...

    async def raw(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Any other JSON call, for example GET /version."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class WellKnown:
    """The resource types that code names; discovery finds the rest."""

    namespaces: Resource = field(default=Resource("", "v1", "namespaces", "Namespace", namespaced=False))
    nodes: Resource = field(default=Resource("", "v1", "nodes", "Node", namespaced=False))
    pods: Resource = field(default=Resource("", "v1", "pods", "Pod"))
    services: Resource = field(default=Resource("", "v1", "services", "Service"))
    endpoints: Resource = field(default=Resource("", "v1", "endpoints", "Endpoints"))
    events: Resource = field(default=Resource("", "v1", "events", "Event"))
    configmaps: Resource = field(default=Resource("", "v1", "configmaps", "ConfigMap"))
    secrets: Resource = field(default=Resource("", "v1", "secrets", "Secret"))
    serviceaccounts: Resource = field(default=Resource("", "v1", "serviceaccounts", "ServiceAccount"))
    deployments: Resource = field(default=Resource("apps", "v1", "deployments", "Deployment"))
    replicasets: Resource = field(default=Resource("apps", "v1", "replicasets", "ReplicaSet"))
    statefulsets: Resource = field(default=Resource("apps", "v1", "statefulsets", "StatefulSet"))
    daemonsets: Resource = field(default=Resource("apps", "v1", "daemonsets", "DaemonSet"))
    jobs: Resource = field(default=Resource("batch", "v1", "jobs", "Job"))
    endpointslices: Resource = field(default=Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"))
    leases: Resource = field(default=Resource("coordination.k8s.io", "v1", "leases", "Lease"))
    crds: Resource = field(
        default=Resource(
            "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
        )
    )
    mutating_webhooks: Resource = field(
        default=Resource(
            "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False
        )
    )
    validating_webhooks: Resource = field(
        default=Resource(
            "admissionregistration.k8s.io",
            "v1",
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
            False,
        )
    )
    ingresses: Resource = field(default=Resource("networking.k8s.io", "v1", "ingresses", "Ingress"))
    ingressclasses: Resource = field(
        default=Resource("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)
    )
    tokenreviews: Resource = field(
        default=Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
    )


WELL_KNOWN = WellKnown()
