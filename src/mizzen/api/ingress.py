"""networking.k8s.io: Ingress and IngressClass, which Kubernetes defines and the ingress gateway serves.

https://kubernetes.io/docs/reference/kubernetes-api/service-resources/ingress-v1/
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from mizzen.api.base import Model, Object

PathType: TypeAlias = Literal["Exact", "Prefix", "ImplementationSpecific"]


class ServiceBackendPort(Model):
    ONE_OF: ClassVar = (("name", "number"),)

    name: str | None = None
    number: int | None = None


class IngressServiceBackend(Model):
    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class TypedLocalObjectReference(Model):
    kind: str
    name: str
    api_group: str = ""


class IngressBackend(Model):
    """A Service of the Ingress's own namespace, or some other object."""

    ONE_OF: ClassVar = (("service", "resource"),)

    service: IngressServiceBackend | None = None
    resource: TypedLocalObjectReference | None = None


class HTTPIngressPath(Model):
    backend: IngressBackend
    path: str = ""
    path_type: PathType | None = None
    """Prefix: by whole elements, so that /foo stands for /foo and /foo/bar and not for /foobar."""


class HTTPIngressRuleValue(Model):
    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(Model):
    host: str = ""
    """Empty: any."""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(Model):
    hosts: tuple[str, ...] = ()
    """Empty: any."""
    secret_name: str = ""
    """In the namespace of the gateway's Pods, as in Istio."""


class IngressSpec(Model):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    """Answers what no rule of this Ingress takes."""
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


class Ingress(Object[IngressSpec]):
    """Where HTTP requests from outside go, by host and path."""


class IngressClassParametersReference(Model):
    kind: str
    name: str
    api_group: str = ""
    scope: str = ""
    namespace: str = ""


class IngressClassSpec(Model):
    controller: str = ""
    """Ours is `istio.io/ingress-controller`."""
    parameters: IngressClassParametersReference | None = None


class IngressClass(Object[IngressClassSpec]):
    """Which controller serves the Ingresses that name it."""
