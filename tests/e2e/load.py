"""A steady load on one URL: so many requests a second, over kept-alive and over new connections, GET and POST by turns.

    python load.py URL --rate 200 --seconds 20

prints {"sent": …, "failed": …, "failures": {…}, "versions": {…}, "p50_ms": …, "p99_ms": …}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Tally:
    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, object]:
        ordered = sorted(self.latencies)
        failed = self.failures.total()
        return {
            "sent": len(ordered) + failed,
            "failed": failed,
            "failures": dict(self.failures),
            "versions": dict(self.versions),
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 1) if ordered else None,
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1) if ordered else None,
        }


async def call(session: aiohttp.ClientSession, method: str, url: str, pattern: re.Pattern[str], tally: Tally) -> None:
    start = time.perf_counter()
    try:
        async with session.request(method, url, data=b"x" * 200 if method == "POST" else None) as response:
            body = await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.failures[f"{method} {type(error).__name__}: {error}"] += 1
        return
    if response.status != 200:
        tally.failures[f"{method} {response.status} {body[:80]}"] += 1
        return
    tally.latencies.append(time.perf_counter() - start)
    if found := pattern.search(body):
        tally.versions[found.group()] += 1


async def load(url: str, rate: float, seconds: float, methods: list[str], pattern: str, host: str) -> Tally:
    tally, stop = Tally(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    compiled = re.compile(pattern)
    headers = {"Host": host} if host else {}
    timeout = aiohttp.ClientTimeout(total=15)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as kept,
        aiohttp.ClientSession(
            timeout=timeout, headers=headers, connector=aiohttp.TCPConnector(force_close=True, limit=0)
        ) as fresh,
        asyncio.TaskGroup() as calls,
    ):
        start = time.monotonic()
        for number in range(int(rate * seconds)):
            session = kept if number % 2 else fresh
            task = calls.create_task(call(session, methods[number // 2 % len(methods)], url, compiled, tally))
            if number == 0:
                await task
                print("started", flush=True)
                start = time.monotonic()
            if stop.is_set():
                break
            await asyncio.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--methods", default="GET,POST")
    parser.add_argument("--count", default=r"reviews-v\d", help="pattern whose first match in a body is counted")
    parser.add_argument("--host", default="")
    given = parser.parse_args()
    tally = asyncio.run(load(given.url, given.rate, given.seconds, given.methods.split(","), given.count, given.host))
    print(json.dumps(tally.report()))


if __name__ == "__main__":
    main()
