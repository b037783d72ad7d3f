"""One caller of `CreateCertificate`, as an agent is, in a network namespace of the cluster. Used by `zero_trust.py`.

Reads a JSON object on stdin (`target`, `authority`, `roots`, `token`, `identity`, `count`), and writes the seconds of
each call on an open channel, and of each on a channel of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc

from mizzen.ca.authority import new_key, signing_request
from mizzen.ca.messages import CA_METHOD, IstioCertificateRequest, IstioCertificateResponse


class Caller:
    def __init__(self, asked: dict[str, str]) -> None:
        self._asked = asked
        self._request = IstioCertificateRequest(csr=signing_request(new_key(), asked["identity"]).decode())

    def channel(self) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(root_certificates=self._asked["roots"].encode())
        # A subchannel of its own: gRPC shares connections between channels otherwise.
        options = (("grpc.ssl_target_name_override", self._asked["authority"]), ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(self._asked["target"], credentials, options)

    async def call(self, channel: grpc.aio.Channel) -> None:
        method = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        answer = await method(self._request, metadata=(("authorization", f"Bearer {self._asked['token']}"),))
        assert len(answer.cert_chain) > 1, "no chain"

    async def on_an_open_channel(self, count: int) -> list[float]:
        found = []
        async with self.channel() as channel:
            for _ in range(count):
                start = time.perf_counter()
                await self.call(channel)
                found.append(time.perf_counter() - start)
        return found[1:]

    async def each_on_its_own(self, count: int) -> list[float]:
        found = []
        for _ in range(count):
            start = time.perf_counter()
            async with self.channel() as channel:
                await self.call(channel)
            found.append(time.perf_counter() - start)
        return found


async def main() -> None:
    asked = json.load(sys.stdin)
    caller, count = Caller(asked), int(asked["count"])
    opened, own = await caller.on_an_open_channel(count + 1), await caller.each_on_its_own(count)
    json.dump({"open": opened, "own": own}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
