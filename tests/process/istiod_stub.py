"""A control plane of two ports for the agent's tests: our real CA, and an ADS server that has nothing to configure.

Runs as a program: `istiod_stub.py FOLDER` makes a root and a token there, serves CA (15012) and ADS (15011) on loopback
and prints one JSON line per event.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509

from mizzen.agent.sds_messages import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from mizzen.ca.authority import new_root, sign_serving
from mizzen.ca.service import certificate_service
from mizzen.ca.spiffe import Caller, Identity
from mizzen.ca.tokens import Unauthenticated

TOKEN = "a-projected-token"


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


async def main(folder):
    now = datetime.now(UTC)
    root = new_root("cluster.local", now, x509.random_serial_number())
    certificate, _ = root.to_pem()
    (folder / "root-cert.pem").write_bytes(certificate)
    (folder / "istio-token").write_text(TOKEN)
    pair = sign_serving(root, ["localhost", "127.0.0.1"], now, x509.random_serial_number())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((certificate_service(lambda: root, authenticate), ads_service()))
    server.add_secure_port("127.0.0.1:15012", grpc.ssl_server_credentials([pair]))
    mutual = grpc.ssl_server_credentials([pair], certificate, require_client_auth=True)
    server.add_secure_port("127.0.0.1:15011", mutual)
    await server.start()
    say(serving=True)
    await server.wait_for_termination()


asyncio.run(main(Path(sys.argv[1])))
