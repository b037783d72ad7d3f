"""The ratings service: stars per reviewer.

`python -m mizzen.samples.bookinfo.ratings [PORT]`. $SERVICE_VERSION may make it misbehave: `v-faulty` refuses half of
the requests, `v-delayed` lets half of them wait, `v-unavailable` and `v-unhealthy` are away every other minute or
quarter of one. `v2` keeps its ratings in a database, which this sample does not bring.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from typing import Any

from mizzen.samples.bookinfo.calls import PORT
from mizzen.samples.serving import Request, Response, as_json, port_argument, serve, text

DELAY = 7.0
PERIODS = {"v-unavailable": 60.0, "v-unhealthy": 15.0}
"""Seconds between changes from well to unwell and back."""
BEGUN = time.monotonic()

_ratings: dict[int, dict[str, int]] = {}
"""What was posted, by product: in memory, until the process ends."""
_lock = threading.Lock()


def app(request: Request) -> Response:
    if request.path == "/health":
        if _version() == "v-unhealthy" and _is_away():
            return as_json({"status": "Ratings is not healthy"}, 500)
        return as_json({"status": "Ratings is healthy"})
    if not (match := re.fullmatch(r"/ratings(?:/(.*))?", request.path)):
        return text("Not Found\n", 404)
    if not re.fullmatch(r"\d+", match[1] or ""):
        return as_json({"error": "please provide numeric product ID"}, 400)
    if request.method == "POST":
        return _post(int(match[1]), request.body)
    return _get(int(match[1]))


def _version() -> str:
    return os.environ.get("SERVICE_VERSION", "v1")


def _post(product: int, body: bytes) -> Response:
    try:
        ratings = json.loads(body)
    except ValueError:
        return as_json({"error": "please provide valid ratings JSON"}, 400)
    if _version() == "v2":
        return as_json({"error": "Post not implemented for database backed ratings"}, 501)
    if not isinstance(ratings, dict):
        return as_json({"error": "please provide valid ratings JSON"}, 400)
    with _lock:
        _ratings[product] = ratings
    return as_json(_stored(product))


def _get(product: int) -> Response:
    version = _version()
    if version == "v2":
        return as_json({"error": "could not connect to ratings database"}, 500)
    if (version in PERIODS and _is_away()) or (version == "v-faulty" and _one_in_two()):
        return as_json({"error": "Service unavailable"}, 503)
    if version == "v-delayed" and _one_in_two():
        time.sleep(DELAY)
    return as_json(_stored(product))


def _stored(product: int) -> dict[str, Any]:
    with _lock:
        return {"id": product, "ratings": _ratings.get(product, {"Reviewer1": 5, "Reviewer2": 4})}


def _one_in_two() -> bool:
    return random.random() < 0.5  # noqa: S311 - it plays a fault


def _is_away() -> bool:
    period = PERIODS.get(_version())
    return period is not None and int((time.monotonic() - BEGUN) / period) % 2 == 1


def main() -> None:
    global BEGUN
    BEGUN = time.monotonic()
    serve(app, port_argument(PORT), "ratings")


if __name__ == "__main__":
    main()
