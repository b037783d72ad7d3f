"""`istio.v1.auth.IstioCertificateService` over gRPC: a token and a signing request in, a certificate chain out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc
from cryptography import x509

from mizzen.ca.authority import WORKLOAD_VALIDITY, BadRequest, fingerprint, join, with_chain, workload_leaf
from mizzen.ca.messages import CA_SERVICE, TRUSTED_ROOTS, IstioCertificateRequest, IstioCertificateResponse
from mizzen.ca.spiffe import Caller
from mizzen.ca.succession import Succession
from mizzen.ca.tokens import Unauthenticated
from mizzen.kube.api import ApiError

log = logging.getLogger(__name__)

# Other metadata (WorkloadName, ClusterID …) informs and changes nothing.
_NOT_HONOURED = {"CertSigner", "ImpersonatedIdentity"}

Authenticate: TypeAlias = Callable[[str], Awaitable[Caller]]
"""Bearer token to who that is; raises Unauthenticated, or ApiError when nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate is about to be handed out: to whom, by which key, until when; and which of the roots that are to
    be trusted its owner says to trust."""

    caller: Caller
    key_id: str
    not_after: datetime
    lives: timedelta
    trusts: frozenset[str]


Told: TypeAlias = Callable[[Issued], Awaitable[None]]
"""Hears of a certificate before its owner does; raises ApiError where it must not be handed out."""


async def _nobody(_: Issued) -> None:
    """Where nobody keeps count."""


def certificate_service(
    authority: Callable[[], Succession], authenticate: Authenticate, told: Told = _nobody
) -> grpc.GenericRpcHandler:
    """The service for `grpc.aio.Server.add_generic_rpc_handlers`. The authority is asked per call: it may change.

    The answer is the leaf, the issuers below the roots and, last and in one element, all roots to trust, as agents of
    Istio take it.
    """

    async def create_certificate(request: Any, context: grpc.aio.ServicerContext) -> Any:
        asked = _metadata(request)
        _refuse_what_is_not_honoured(asked)
        caller = await authenticate(_bearer_token(context))
        current = authority()
        leaf = _sign(current, request, caller)
        await told(_issued(leaf, current, caller, asked))
        log.info("signed a certificate for %s", caller.identity)
        return IstioCertificateResponse(cert_chain=(*with_chain(current.signing, leaf), join(current.trusted)))

    method = grpc.unary_unary_rpc_method_handler(
        _with_status(create_certificate),
        request_deserializer=IstioCertificateRequest.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(CA_SERVICE, {"CreateCertificate": method})


def _sign(authority: Succession, request: Any, caller: Caller) -> x509.Certificate:
    asked = timedelta(seconds=request.validity_duration) if request.validity_duration else WORKLOAD_VALIDITY
    now = datetime.now(UTC)
    serial = x509.random_serial_number()
    return workload_leaf(authority.signing, request.csr.encode(), caller.identity, now, asked, serial, caller.workload)


def _issued(leaf: x509.Certificate, authority: Succession, caller: Caller, asked: dict[str, str]) -> Issued:
    until = leaf.not_valid_after_utc
    said = asked.get(TRUSTED_ROOTS, "").split(",")
    trusts = frozenset(map(fingerprint, authority.trusted)).intersection(said)
    return Issued(caller, authority.signing.key_id, until, until - datetime.now(UTC), trusts)


def _metadata(request: Any) -> dict[str, str]:
    return {entry.key: entry.value.string_value for entry in request.metadata.fields}


def _refuse_what_is_not_honoured(asked: dict[str, str]) -> None:
    for key in sorted(key for key in _NOT_HONOURED if asked.get(key)):
        raise BadRequest(f"{key} is not served: the certificate is for the caller itself, signed by this authority")


def _bearer_token(context: grpc.aio.ServicerContext) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    raise Unauthenticated("the call carries no bearer token")


Method: TypeAlias = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]


def _with_status(method: Method) -> Method:
    """Errors become the gRPC status that Istio's agents know."""

    async def answered(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(request, context)
        except Unauthenticated as error:
            await _abort(context, grpc.StatusCode.UNAUTHENTICATED, error)
        except BadRequest as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)
        except ApiError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, error)

    return answered


async def _abort(context: grpc.aio.ServicerContext, code: grpc.StatusCode, error: Exception) -> None:
    log.warning("refused a certificate to %s: %s", context.peer(), error)
    await context.abort(code, str(error))
