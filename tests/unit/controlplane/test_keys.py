"""Where keys of tokens come from, and where they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from envoys import until
from issuers import issuer
from mizzen.controlplane import keys
from mizzen.controlplane.keys import KeyFetcher, internal
from mizzen.scope.snapshot import Change, KeySet

KEYS = '{"keys": [{"kty": "EC"}]}'


async def learned(
    urls: list[str], forbidden: keys.Forbidden = lambda _: False, changes: int = 1, refresh: float = keys.REFRESH
) -> list[Change]:
    found: list[Change] = []
    enough = asyncio.Event()

    def tell(change: Change) -> None:
        found.append(change)
        if len(found) >= changes:
            enough.set()

    fetcher = KeyFetcher(tell, forbidden, refresh)
    fetcher.want(dict.fromkeys(urls, 2.0))
    work = asyncio.create_task(fetcher.run())
    try:
        await asyncio.wait_for(enough.wait(), 10)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return found


async def the_only(url: str, forbidden: keys.Forbidden = lambda _: False) -> KeySet:
    (change,) = await learned([url], forbidden)
    assert isinstance(change.after, KeySet) and change.name == url
    return change.after


async def test_keys_are_fetched_also_by_way_of_the_issuer() -> None:
    async with issuer({"/keys": KEYS}) as base:
        assert (await the_only(f"{base}/keys")).keys == KEYS
    configuration: dict[str, str | Callable[[], str]] = {"/keys": KEYS}
    async with issuer(configuration) as base:
        configuration["/.well-known/openid-configuration"] = f'{{"jwks_uri": "{base}/keys"}}'
        assert (await the_only(f"{base}/.well-known/openid-configuration")).keys == KEYS


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"keys": []}', '{"keys": [1]}', '{"jwks_uri": 5}'])
async def test_what_is_no_key_set_gives_no_keys(text: str) -> None:
    async with issuer({"/keys": text, "/.well-known/openid-configuration": text}) as base:
        for path in ("keys", ".well-known/openid-configuration"):
            found = await the_only(f"{base}/{path}")
            assert found.keys == "" and found.failure


async def test_nobody_there_gives_no_keys() -> None:
    async with issuer({}) as base:
        assert "404" in (await the_only(f"{base}/keys")).failure


async def test_keys_that_were_had_stay_while_a_later_attempt_fails() -> None:
    answers = iter([KEYS])
    async with issuer({"/keys": lambda: next(answers, "broken")}) as base:
        first, second = (change.after for change in await learned([f"{base}/keys"], changes=2, refresh=0.01))
    assert isinstance(first, KeySet) and isinstance(second, KeySet)
    assert (first.keys, second.keys) == (KEYS, KEYS) and second.failure


async def test_internal_addresses_are_not_asked_by_name_nor_by_redirection() -> None:
    async with issuer({"/keys": KEYS}) as base:
        for url in (f"{base}/keys", f"{base.replace('127.0.0.1', 'localhost')}/keys"):
            assert "internal address" in (await the_only(url, internal)).failure

    def only_metadata(address: object) -> bool:
        return str(address) == "169.254.169.254"

    async with issuer({"/keys": "->http://169.254.169.254/latest/meta-data"}) as base:
        assert "internal address" in (await the_only(f"{base}/keys", only_metadata)).failure


INTERNAL = ["127.0.0.1", "169.254.169.254", "fe80::1", "::1", "::ffff:169.254.169.254", "0.0.0.0"]


@pytest.mark.parametrize("address", INTERNAL)
def test_what_is_internal(address: str) -> None:
    assert internal(ip_address(address))
    assert not internal(ip_address("10.96.0.10"))


async def test_what_is_no_longer_wanted_is_forgotten() -> None:
    found: list[Change] = []
    async with issuer({"/keys": KEYS}) as base:
        fetcher = KeyFetcher(found.append, lambda _: False)
        fetcher.want({f"{base}/keys": 2.0})
        work = asyncio.create_task(fetcher.run())
        try:
            await until(lambda: found)
            fetcher.want({})
            await until(lambda: len(found) == 2)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    assert found[1].after is None
