"""The HTTP filter chain, one file per filter.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/http_filters
"""

from __future__ import annotations

from collections.abc import Mapping

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import Message
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Guards
from mizzen.xds.http_filters import authorization, cors, fault, grpc_stats, jwt_authn, router

# Whether a request may enter at all comes first: faults, CORS and routes are for those alone who may. The contents of
# these travel by ECDS, so that an edit never touches a listener.
_GUARDS: tuple[Message, ...] = (
    authorization.CUSTOM_MATCH.http_filter(),  # says whether the authorizer is to be asked
    authorization.CUSTOM.http_filter(),  # asks it, before anyone is identified
    jwt_authn.TOKENS.http_filter(),  # refuses bad tokens, and tells the next ones what the good ones say
    authorization.AUDIT.http_filter(),  # notes, whatever is decided then
    authorization.DENY.http_filter(),  # no ALLOW policy can bring back what is denied
    authorization.ALLOW.http_filter(),
)


def outbound(mesh: MeshConfig) -> tuple[Message, ...]:
    """As a request meets them, in front of the application that calls.

    Faults and CORS cost nothing until a route asks for them: the chain is made for the route that a request takes, and
    nothing in it changes the route.
    """
    return (
        *grpc_stats.http_filters(mesh),  # tells the access log about gRPC
        fault.http_filter(disabled=True),  # before routing: no timeout of a route cuts a delay, no retry an abort
        cors.http_filter(disabled=True),  # answers preflights itself, so that they need no destination
        router.http_filter(),  # ends the chain
    )


def inbound(mesh: MeshConfig) -> tuple[Message, ...]:
    """In front of the application that is called. What a VirtualService says has been done where the call began."""
    return (*_GUARDS, *grpc_stats.http_filters(mesh), router.http_filter())


def gateway(mesh: MeshConfig) -> tuple[Message, ...]:
    """What a token says may choose another route, when the chain has been made already: nothing may be missing."""
    return (
        *_GUARDS,
        *grpc_stats.http_filters(mesh),
        fault.http_filter(),
        cors.http_filter(),
        router.http_filter(),
    )


def guard_contents(guards: Guards) -> Mapping[str, Resource]:
    """What is in the slots above, by their names."""
    found = (*authorization.contents(guards), *jwt_authn.contents(guards))
    return {resource.name: resource for resource in found}
