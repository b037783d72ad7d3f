"""The few Envoy messages that the agent itself speaks, described in code: discovery and Secret.

The agent does without Envoy's full API, because every sidecar would pay for it in memory. Numbers are those of
https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/discovery/v3/discovery.proto and
https://github.com/envoyproxy/envoy/blob/main/api/envoy/extensions/transport_sockets/tls/v3/secret.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.ca.messages import message_classes

SDS_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"

_MESSAGES = message_classes(
    "mizzen.sds",
    {
        "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
        "Status": {"code": (1, "int32"), "message": (2, "string")},
        "Version": {"key": (1, "string"), "value": (2, "string")},
        "DiscoveryRequest": {
            "version_info": (1, "string"),
            "resource_names": (3, "*string"),
            "type_url": (4, "string"),
            "response_nonce": (5, "string"),
            "error_detail": (6, "Status"),
        },
        "DiscoveryResponse": {
            "version_info": (1, "string"),
            "resources": (2, "*Any"),
            "type_url": (4, "string"),
            "nonce": (5, "string"),
        },
        "DeltaDiscoveryRequest": {
            "type_url": (2, "string"),
            "resource_names_subscribe": (3, "*string"),
            "resource_names_unsubscribe": (4, "*string"),
            "initial_resource_versions": (5, "*Version"),
            "response_nonce": (6, "string"),
            "error_detail": (7, "Status"),
        },
        "Resource": {"version": (1, "string"), "resource": (2, "Any"), "name": (3, "string")},
        "DeltaDiscoveryResponse": {
            "system_version_info": (1, "string"),
            "resources": (2, "*Resource"),
            "type_url": (4, "string"),
            "nonce": (5, "string"),
        },
        "DataSource": {"inline_bytes": (2, "bytes")},
        "TlsCertificate": {"certificate_chain": (1, "DataSource"), "private_key": (2, "DataSource")},
        "CertificateValidationContext": {"trusted_ca": (1, "DataSource")},
        "Secret": {
            "name": (1, "string"),
            "tls_certificate": (2, "TlsCertificate"),
            "validation_context": (4, "CertificateValidationContext"),
        },
    },
)

DiscoveryRequest: Any = _MESSAGES["DiscoveryRequest"]
DiscoveryResponse: Any = _MESSAGES["DiscoveryResponse"]
DeltaDiscoveryRequest: Any = _MESSAGES["DeltaDiscoveryRequest"]
DeltaDiscoveryResponse: Any = _MESSAGES["DeltaDiscoveryResponse"]
Secret: Any = _MESSAGES["Secret"]


def key_and_chain(name: str, key_pem: bytes, chain_pem: bytes) -> bytes:
    """A Secret, serialised, with what a server or client proves itself with."""
    pair = {"certificate_chain": {"inline_bytes": chain_pem}, "private_key": {"inline_bytes": key_pem}}
    serialised: bytes = Secret(name=name, tls_certificate=pair).SerializeToString(deterministic=True)
    return serialised


def trusted_roots(name: str, roots_pem: bytes) -> bytes:
    """A Secret, serialised, with what peers are checked against."""
    context = {"trusted_ca": {"inline_bytes": roots_pem}}
    serialised: bytes = Secret(name=name, validation_context=context).SerializeToString(deterministic=True)
    return serialised
