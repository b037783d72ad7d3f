"""A control plane of two ports for the agent's tests: our real CA, and an ADS server that has nothing to configure.

Runs as a program: `istiod_stub.py FOLDER [SOCKET]` makes a root and a token there, serves CA (15012) and ADS (15011)
on loopback and prints one JSON line per event. At SOCKET it serves secrets as SPIRE does, state of the world only, for
the account `spire` and under an intermediate authority of its own.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from mizzen.agent.sds_messages import (
    SDS_SERVICE,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    key_and_chain,
    trusted_roots,
)
from mizzen.ca.authority import (
    Root,
    new_key,
    new_root,
    private_key_pem,
    sign_serving,
    sign_workload,
    signing_request,
)
from mizzen.ca.service import certificate_service
from mizzen.ca.spiffe import Caller, Identity
from mizzen.ca.succession import Succession
from mizzen.ca.tokens import Unauthenticated
from mizzen.envoy.resources import SECRET

TOKEN = "a-projected-token"
HOUR = timedelta(hours=1)


def say(**event):
    print(json.dumps(event), flush=True)


async def authenticate(token):
    if token != TOKEN:
        raise Unauthenticated("not the token of this test")
    return Caller(Identity("cluster.local", "default", "web"))


async def stream(requests, context):
    first = True
    async for request in requests:
        if first:
            say(ads=[value.decode() for value in context.auth_context()["peer_spiffe_id"]])
        first = False
        if not request.response_nonce:
            await context.write(DeltaDiscoveryResponse(type_url=request.type_url, nonce="1"))


def ads_service():
    method = grpc.stream_stream_rpc_method_handler(
        stream, DeltaDiscoveryRequest.FromString, lambda message: message.SerializeToString()
    )
    name = "envoy.service.discovery.v3.AggregatedDiscoveryService"
    return grpc.method_handlers_generic_handler(name, {"DeltaAggregatedResources": method})


def issued_by_somebody_else(root, now):
    """Key and chain of a workload, signed below the mesh's root."""
    key, serial = new_key(), x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SPIRE")])
    unsigned = x509.CertificateBuilder(root.certificate.subject, name, key.public_key(), serial, now, now + HOUR)
    unsigned = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    above = unsigned.sign(root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spire = Root.plugged_in(above, private_key_pem(key), above, root.to_pem()[0])
    identity, own = Identity("cluster.local", "default", "spire"), new_key()
    chain = sign_workload(spire, signing_request(own, str(identity)), identity, now, HOUR, serial)
    return private_key_pem(own), "".join(chain).encode()


def secret_service(root, now):
    key, chain = issued_by_somebody_else(root, now)
    held = {"default": key_and_chain("default", key, chain), "ROOTCA": trusted_roots("ROOTCA", root.to_pem()[0])}

    async def stream_secrets(requests, context):
        async for request in requests:
            if request.response_nonce:
                continue
            say(sds=sorted(request.resource_names))
            found = [{"type_url": SECRET, "value": held[name]} for name in request.resource_names]
            await context.write(DiscoveryResponse(version_info="1", type_url=SECRET, resources=found, nonce="1"))

    method = grpc.stream_stream_rpc_method_handler(
        stream_secrets, DiscoveryRequest.FromString, lambda message: message.SerializeToString()
    )
    return grpc.method_handlers_generic_handler(SDS_SERVICE, {"StreamSecrets": method})


async def serve_somebody_elses_secrets(root, now, socket):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((secret_service(root, now),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server


async def main(folder, socket=""):
    now = datetime.now(UTC)
    root = new_root("cluster.local", now, x509.random_serial_number())
    certificate, _ = root.to_pem()
    (folder / "root-cert.pem").write_bytes(certificate)
    (folder / "istio-token").write_text(TOKEN)
    pair = sign_serving(root, ["localhost", "127.0.0.1"], now, x509.random_serial_number())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((certificate_service(lambda: Succession(root, now), authenticate), ads_service()))
    server.add_secure_port("127.0.0.1:15012", grpc.ssl_server_credentials([pair]))
    mutual = grpc.ssl_server_credentials([pair], certificate, require_client_auth=True)
    server.add_secure_port("127.0.0.1:15011", mutual)
    await server.start()
    others = await serve_somebody_elses_secrets(root, now, socket) if socket else None
    say(serving=True)
    await server.wait_for_termination()
    del others


asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
