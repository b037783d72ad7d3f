"""The reviews service: two reviews, and in v2 (black) and v3 (red) the stars that go with them.

`python -m mizzen.samples.bookinfo.reviews [PORT]`. $ENABLE_RATINGS=true asks ratings, $STAR_COLOR colours them.
"""

from __future__ import annotations

import http.client
import os
import re
from typing import Any

from mizzen.samples.bookinfo.calls import PORT, get, propagated
from mizzen.samples.serving import Request, Response, as_json, pod_name, port_argument, serve, text

TEXTS = {
    "Reviewer1": "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Reviewer2": "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by "
    "Shakespeare.",
}
UNAVAILABLE = {"error": "Ratings service is currently unavailable"}
PATIENT, IMPATIENT = 10.0, 2.5
"""Seconds that the black stars' version waits for ratings, and every other one."""


def app(request: Request) -> Response:
    if request.path == "/health":
        return as_json({"status": "Reviews is healthy"})
    if match := re.fullmatch(r"/reviews/(-?\d+)", request.path):
        return as_json(_reviews(match[1], request))
    return text("Not Found\n", 404)


def _reviews(product: str, request: Request) -> dict[str, Any]:
    reviews: list[dict[str, Any]] = [{"reviewer": name, "text": said} for name, said in TEXTS.items()]
    if os.environ.get("ENABLE_RATINGS") == "true":
        stars = _stars(product, request)
        for review in reviews:
            review["rating"] = _rating(stars.get(review["reviewer"]))
    cluster = os.environ.get("CLUSTER_NAME", "null")
    return {"id": product, "podname": pod_name(), "clustername": cluster, "reviews": reviews}


def _rating(stars: int | None) -> dict[str, Any]:
    return UNAVAILABLE if stars is None else {"stars": stars, "color": _color()}


def _color() -> str:
    return os.environ.get("STAR_COLOR", "black")


def _stars(product: str, request: Request) -> dict[str, int]:
    """Stars by reviewer; empty when ratings cannot say."""
    timeout = PATIENT if _color() == "black" else IMPATIENT
    try:
        status, document = get("ratings", f"/ratings/{product}", propagated(request), timeout)
    except (OSError, http.client.HTTPException) as error:
        print(f"ratings cannot be reached: {error}", flush=True)
        return {}
    if status != 200 or not isinstance(document, dict):
        print(f"ratings answered {status}", flush=True)
        return {}
    stars: dict[str, int] = document.get("ratings") or {}
    return stars


def main() -> None:
    serve(app, port_argument(PORT), "reviews")


if __name__ == "__main__":
    main()
