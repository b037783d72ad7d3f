"""`istio.v1.auth.IstioCertificateService` over gRPC: a token and a signing request in, a certificate chain out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc
from cryptography import x509

from mizzen.ca.authority import WORKLOAD_VALIDITY, BadRequest, Root, sign_workload
from mizzen.ca.messages import CA_SERVICE, IstioCertificateRequest, IstioCertificateResponse
from mizzen.ca.spiffe import Caller
from mizzen.ca.tokens import Unauthenticated
from mizzen.kube.api import ApiError

log = logging.getLogger(__name__)

# Other metadata (WorkloadName, ClusterID …) informs and changes nothing.
_NOT_HONOURED = {"CertSigner", "ImpersonatedIdentity"}

Authenticate: TypeAlias = Callable[[str], Awaitable[Caller]]
"""Bearer token to who that is; raises Unauthenticated, or ApiError when nobody can be asked."""


def certificate_service(root: Callable[[], Root], authenticate: Authenticate) -> grpc.GenericRpcHandler:
    """The service for `grpc.aio.Server.add_generic_rpc_handlers`. `root` is asked per call, so that it may change."""

    async def create_certificate(request: Any, context: grpc.aio.ServicerContext) -> Any:
        _refuse_what_is_not_honoured(request)
        caller = await authenticate(_bearer_token(context))
        chain = _sign(root(), request, caller)
        log.info("signed a certificate for %s", caller.identity)
        return IstioCertificateResponse(cert_chain=chain)

    method = grpc.unary_unary_rpc_method_handler(
        _with_status(create_certificate),
        request_deserializer=IstioCertificateRequest.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(CA_SERVICE, {"CreateCertificate": method})


def _sign(root: Root, request: Any, caller: Caller) -> tuple[str, ...]:
    asked = timedelta(seconds=request.validity_duration) if request.validity_duration else WORKLOAD_VALIDITY
    now = datetime.now(UTC)
    serial = x509.random_serial_number()
    return sign_workload(root, request.csr.encode(), caller.identity, now, asked, serial, caller.workload)


def _refuse_what_is_not_honoured(request: Any) -> None:
    asked = {entry.key for entry in request.metadata.fields if entry.value.string_value}
    for key in sorted(asked & _NOT_HONOURED):
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
