"""What is written for TLS by files, which a judging Envoy would want to read."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import ClientTLSSettings, ServerTLSSettings
from mizzen.envoy.messages import DownstreamTlsContext, MessageClass, Secret, UpstreamTlsContext
from mizzen.scope.model import Protocol, Subset, TlsServer
from mizzen.xds.secrets import in_files
from mizzen.xds.transport_sockets import gateway_tls, inbound_tls, names_itself, outbound_tls

A = Subset(cluster="outbound|443||a.org", host="a.org", port=443, protocol=Protocol.HTTP)


def context(found: dict[str, Any], kind: MessageClass) -> dict[str, Any]:
    written = kind.FromString(found["transport_socket"]["typed_config"].value)
    return MessageToDict(written, preserving_proto_field_name=True)


def test_a_gateway_that_checks_clients_by_files() -> None:
    settings = ServerTLSSettings(
        mode="MUTUAL",
        server_certificate="/c/tls.crt",
        private_key="/c/tls.key",
        ca_certificates="/c/ca.crt",
        ca_crl="/c/crl",
        subject_alt_names=("client.org",),
        min_protocol_version="TLSV1_3",
    )
    server = TlsServer(hosts=("a.org",), settings=settings)
    found = context(gateway_tls(server, MeshConfig()), DownstreamTlsContext)
    common = found["common_tls_context"]
    assert found["require_client_certificate"] is True
    assert common["tls_params"] == {
        "tls_minimum_protocol_version": "TLSv1_3",
        "tls_maximum_protocol_version": "TLSv1_3",
    }
    assert [one["name"] for one in common["tls_certificate_sds_secret_configs"]] == ["file-cert:/c/tls.crt~/c/tls.key"]
    assert common["combined_validation_context"]["default_validation_context"] == {
        "match_typed_subject_alt_names": [
            {"san_type": "DNS", "matcher": {"exact": "client.org"}},
            {"san_type": "URI", "matcher": {"exact": "client.org"}},
        ],
    }
    taken = common["combined_validation_context"]["validation_context_sds_secret_config"]
    assert taken["name"] == "file-root:/c/ca.crt~/c/crl"
    secrets = {one.name: Secret.FromString(one.body) for one in in_files(server)}
    pair = secrets["file-cert:/c/tls.crt~/c/tls.key"].tls_certificate
    assert (pair.certificate_chain.filename, pair.private_key.filename) == ("/c/tls.crt", "/c/tls.key")
    roots = secrets["file-root:/c/ca.crt~/c/crl"].validation_context
    assert (roots.trusted_ca.filename, roots.crl.filename) == ("/c/ca.crt", "/c/crl")


def test_a_caller_with_a_certificate_of_its_own() -> None:
    settings = ClientTLSSettings(
        mode="MUTUAL", client_certificate="/c/crt", private_key="/c/key", ca_certificates="/c/ca"
    )
    common = context(outbound_tls(A, settings, MeshConfig()), UpstreamTlsContext)["common_tls_context"]
    assert common["tls_certificates"] == [
        {"certificate_chain": {"filename": "/c/crt"}, "private_key": {"filename": "/c/key"}}
    ]
    assert common["validation_context"] == {"trusted_ca": {"filename": "/c/ca"}}
    assert names_itself(settings) == {"auto_sni": True, "auto_san_validation": True}


def test_the_operating_systems_authorities_serve_where_none_are_named() -> None:
    common = context(outbound_tls(A, ClientTLSSettings(mode="SIMPLE"), MeshConfig()), UpstreamTlsContext)
    assert "ca-certificates" in common["common_tls_context"]["validation_context"]["trusted_ca"]["filename"]


def test_callers_of_every_trust_domain_are_let_in() -> None:
    mesh = MeshConfig(trust_domain="new.org", trust_domain_aliases=("old.org", "new.org"))
    common = context(inbound_tls(mesh, http=True), DownstreamTlsContext)["common_tls_context"]
    assert common["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"prefix": "spiffe://new.org/"}},
        {"san_type": "URI", "matcher": {"prefix": "spiffe://old.org/"}},
    ]
