"""Real Envoy decides about requests as the documented meaning of policies says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import policies
from dice import Dice
from guarded import Guarded, guarded
from mizzen.api.decode import to_json
from mizzen.api.mesh import GatewayTopology, MeshConfig, ProxyConfig
from mizzen.scope.decision import Request, Verdict, decide
from mizzen.scope.model import Guards
from policies import authentication, key_set, signing_key, token

pytestmark = pytest.mark.process

THOROUGH = bool(os.environ.get("MIZZEN_THOROUGH"))
MESH = MeshConfig(default_config=ProxyConfig(gateway_topology=GatewayTopology(num_trusted_proxies=1)))
DOMAINS = ("cluster.local", "old.example.com")
ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answer(envoy: Guarded, asked: Request, forwarded: str) -> int:
    headers = [f"{name}: {value}" for name, value in asked.headers]
    headers += [f"x-forwarded-for: {forwarded}"] if forwarded else []
    headers += [f"authorization: Bearer {token(dict(asked.claims))}"] if asked.claims else []
    how = {"peer": asked.peer, "sni": asked.sni, "source": asked.source, "to": asked.destination}
    return envoy.get(asked.path, *headers, method=asked.method, host=asked.host, port=asked.port, **how).status


async def test_random_policies_and_requests(tmp_path: Path) -> None:
    """Two thousand pairs; thirty times as many when asked to be thorough."""
    trusted = {"jwks": key_set(signing_key())}
    tokens = authentication({"issuer": policies.ISSUER, **trusted}, {"issuer": policies.OTHER_ISSUER, **trusted})
    verdicts: dict[tuple[bool, Verdict], int] = {}
    async with guarded(tmp_path, MESH) as envoy:
        for seed in range(3000 if THOROUGH else 100):
            dice = Dice(seed)
            chosen = tuple(policies.policy(dice, number, envoy.ports) for number in range(dice.number(1, 3)))
            guards = Guards(policies=chosen, authentications=(tokens,), trust_domains=DOMAINS)
            await envoy.enforce(guards)
            for _ in range(16):
                asked, forwarded = policies.request(dice, envoy.ports.http, envoy.ports.https)
                verdict = decide(guards, asked).verdict
                verdicts[True, verdict] = verdicts.get((True, verdict), 0) + 1
                assert (answer(envoy, asked, forwarded) == 200) == (verdict is Verdict.ALLOW), (
                    f"seed {seed}: {asked} against {to_json(chosen)}"
                )
            for _ in range(4):
                asked = policies.connection(dice, envoy.ports.tcp, envoy.ports.tls)
                verdict = decide(guards, asked).verdict
                verdicts[False, verdict] = verdicts.get((False, verdict), 0) + 1
                how = {"peer": asked.peer, "sni": asked.sni, "source": asked.source, "to": asked.destination}
                status = envoy.ask(asked.port, ASKED, **how).status
                assert (status == 200) == (verdict is Verdict.ALLOW), f"seed {seed}: {asked} against {to_json(chosen)}"
    assert min(verdicts.values()) * 8 > max(verdicts.values()) / 8 and len(verdicts) == 4, verdicts
