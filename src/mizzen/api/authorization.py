"""security.istio.io: who may call what, and whose tokens are believed.

https://istio.io/latest/docs/reference/config/security/authorization-policy/
https://istio.io/latest/docs/reference/config/security/request_authentication/
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, field

from mizzen.api.base import Duration, Model, Object
from mizzen.api.values import MatchLabels

Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Texts: TypeAlias = tuple[str, ...]
Accounts: TypeAlias = Annotated[tuple[Annotated[str, Meta(max_length=320)], ...], Meta(max_length=16)]

DRY_RUN = "istio.io/dry-run"
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What Go takes for true."""
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class PolicyTargetReference(Model):
    """A resource of the Kubernetes Gateway API, or a Service, in the policy's own namespace."""

    group: Annotated[
        str, Meta(max_length=253, pattern=r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    ] = ""
    kind: Annotated[str, Meta(min_length=1, max_length=63)]
    name: Annotated[str, Meta(min_length=1, max_length=253)]
    namespace: str = ""
    """Must be empty."""

    @property
    def is_gateway(self) -> bool:
        return (self.group, self.kind) == ("gateway.networking.k8s.io", "Gateway")


class Source(Model):
    """Who asks: all fields that are set must hold; of a list one entry is enough."""

    principals: Texts = ()
    """`cluster.local/ns/NAMESPACE/sa/ACCOUNT`, from the caller's certificate: needs mTLS, as do the next three."""
    not_principals: Texts = ()
    request_principals: Texts = ()
    """`ISSUER/SUBJECT` of a valid token."""
    not_request_principals: Texts = ()
    namespaces: Texts = ()
    not_namespaces: Texts = ()
    service_accounts: Accounts = ()
    """`[NAMESPACE/]NAME`; without a namespace it is the policy's."""
    not_service_accounts: Accounts = ()
    ip_blocks: Texts = ()
    """The address that the connection comes from."""
    not_ip_blocks: Texts = ()
    remote_ip_blocks: Texts = ()
    """The client's address, after X-Forwarded-For as far as it is trusted."""
    not_remote_ip_blocks: Texts = ()
    trust_domains: Texts = ()
    not_trust_domains: Texts = ()


class Operation(Model):
    """What is asked for: all fields that are set must hold; of a list one entry is enough."""

    hosts: Texts = ()
    not_hosts: Texts = ()
    ports: Texts = ()
    """Container ports, as text."""
    not_ports: Texts = ()
    methods: Texts = ()
    not_methods: Texts = ()
    paths: Texts = ()
    """Without the query; `{*}` stands for one segment, `{**}` for any number of them."""
    not_paths: Texts = ()


class From(Model):
    source: Source | None = None


class To(Model):
    operation: Operation | None = None


class Condition(Model):
    key: str
    values: Texts = ()
    not_values: Texts = ()


class Rule(Model):
    """One of the sources, one of the operations, and all conditions; what is absent holds for everything."""

    from_: Annotated[tuple[From, ...], Meta(max_length=512)] | None = field(default=None, name="from")
    to: Annotated[tuple[To, ...], Meta(max_length=512)] | None = None
    when: tuple[Condition, ...] = ()


class Provider(Model):
    """One of the mesh's extensionProviders."""

    name: str = ""


class AuthorizationPolicySpec(Model):
    ONE_OF: ClassVar = (("selector", "target_ref", "target_refs"),)

    selector: MatchLabels | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[tuple[PolicyTargetReference, ...], Meta(max_length=16)] | None = None
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None
    rules: Annotated[tuple[Rule, ...], Meta(max_length=512)] = ()
    """No rule matches nothing: ALLOW without rules denies everything."""


class AuthorizationPolicy(Object[AuthorizationPolicySpec]):
    """Who may call what."""

    @property
    def targets(self) -> tuple[PolicyTargetReference, ...]:
        return _targets(self.spec)

    @property
    def dry_run(self) -> bool:
        """Only told, never enforced. What is no boolean is not one: the policy is enforced."""
        return self.metadata.annotations.get(DRY_RUN, "") in TRUE


class JWTHeader(Model):
    name: Text
    prefix: str = ""


class ClaimToHeader(Model):
    header: Annotated[str, Meta(min_length=1, pattern=r"^[-_A-Za-z0-9]+$")]
    claim: Text


class JWTRule(Model):
    """Tokens of one issuer: where they are, what they must say, and what becomes of them."""

    ONE_OF: ClassVar = (("jwks", "jwks_uri"),)

    issuer: Text | None = None
    audiences: tuple[Text, ...] = ()
    jwks_uri: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """Where the control plane gets the keys; without it and `jwks` the issuer's OpenID configuration names it."""
    jwks: str | None = None
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    timeout: Duration | None = None
    """For getting the keys; 5s unless said."""
    space_delimited_claims: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    """Claims that hold several values with spaces between; `scope` and `permission` always do."""
    presence: Literal["OPTIONAL", "REQUIRED"] | None = None


class RequestAuthenticationSpec(Model):
    ONE_OF: ClassVar = (("selector", "target_ref", "target_refs"),)

    selector: MatchLabels | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[tuple[PolicyTargetReference, ...], Meta(max_length=16)] | None = None
    jwt_rules: Annotated[tuple[JWTRule, ...], Meta(max_length=4096)] = ()


class RequestAuthentication(Object[RequestAuthenticationSpec]):
    """Which tokens of end users workloads accept. No token passes; a bad one does not."""

    @property
    def targets(self) -> tuple[PolicyTargetReference, ...]:
        return _targets(self.spec)


def _targets(spec: AuthorizationPolicySpec | RequestAuthenticationSpec) -> tuple[PolicyTargetReference, ...]:
    """The list, or the older single one; () for a policy that selects by labels."""
    return spec.target_refs or ((spec.target_ref,) if spec.target_ref is not None else ())
