"""Bookinfo's front: calls details and reviews, and shows a page.

`python -m mizzen.samples.bookinfo.productpage [PORT]`. As in the original, a call may take three seconds and reviews is
tried twice: which is why Istio's seven-second delay makes reviews disappear.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import os
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from mizzen.samples.bookinfo import page
from mizzen.samples.bookinfo.calls import PORT, address, get, propagated
from mizzen.samples.serving import Request, Response, as_json, port_argument, serve, text

TIMEOUT = 3.0
ATTEMPTS = {"reviews": 2}
SESSION = "session"
PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": "Two pairs of twins, parted at sea as children, come to the same town and are taken for each "
    "other all day long. <b>William Shakespeare</b>'s shortest play is an early one, a farce of mistaken identity, "
    "blows and puns.",
}
FLOOD_THREADS = 20

_results: Counter[tuple[str, int]] = Counter()
_lock = threading.Lock()


def app(request: Request) -> Response:
    match request.path:
        case "/" | "/index.html":
            return _html(page.index_page(_services()))
        case "/health":
            return text("Product page is healthy")
        case "/productpage":
            return _product_page(request)
        case "/login" if request.method == "POST":
            return _login(request)
        case "/logout":
            return _redirect(request, "")
        case "/metrics":
            return Response(200, _metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")
        case "/static/bookinfo.css":
            return Response(200, page.STYLE, "text/css; charset=utf-8", (("Cache-Control", "max-age=300"),))
        case "/api/v1/products":
            return as_json([PRODUCT])
    return _api(request)


def _api(request: Request) -> Response:
    match = re.fullmatch(r"/api/v1/products/(\d+)(?:/(reviews|ratings))?", request.path)
    if match is None:
        return text("Not Found\n", 404)
    status, document = _ask(match[2] or "details", match[1], _headers(request))
    return as_json(document, status)


def _product_page(request: Request) -> Response:
    headers = _headers(request)
    _flood(headers)
    details = _ask("details", "0", headers)
    reviews = _ask("reviews", "0", headers)
    return _html(page.product_page(PRODUCT, details, reviews, _user(request)))


def _ask(service: str, product: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Status and document of a service, or what to say instead."""
    status = 500
    for _ in range(ATTEMPTS.get(service, 1)):
        try:
            status, document = get(service, f"/{service}/{product}", headers, TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            print(f"{service} cannot be reached: {error}", flush=True)
            status = 500
            continue
        finally:
            _count(service, status)
        if status == 200:
            return status, document
    return status, {"error": f"Sorry, product {service} are currently unavailable for this book."}


def _flood(headers: dict[str, str]) -> None:
    """$FLOOD_FACTOR more calls of reviews for each page, to show a rate limit at work."""
    factor = int(os.environ.get("FLOOD_FACTOR") or 0)
    if factor > 0:
        with ThreadPoolExecutor(FLOOD_THREADS) as pool:
            list(pool.map(lambda _: _ask("reviews", "0", headers), range(factor)))


def _headers(request: Request) -> dict[str, str]:
    user = _user(request)
    return {**propagated(request), **({"end-user": user} if user else {})}


def _user(request: Request) -> str:
    """Who is signed in. The cookie is not signed: any password would have done anyhow."""
    try:
        cookie = SimpleCookie(request.headers.get("Cookie", "")).get(SESSION)
        return base64.urlsafe_b64decode(cookie.value).decode() if cookie else ""
    except (CookieError, binascii.Error, UnicodeDecodeError):
        return ""


def _login(request: Request) -> Response:
    form = parse_qs(request.body.decode(errors="replace"))
    return _redirect(request, form.get("username", [""])[0])


def _redirect(request: Request, user: str) -> Response:
    """Back to where the form was, signed in as `user`, or as nobody."""
    value = base64.urlsafe_b64encode(user.encode()).decode()
    life = "" if user else "; Max-Age=0"
    cookie = f"{SESSION}={value}; Path=/; HttpOnly; SameSite=Lax{life}"
    target = request.headers.get("Referer", "/productpage?u=normal")
    return Response(302, b"", headers=(("Location", target), ("Set-Cookie", cookie)))


def _services() -> dict[str, Any]:
    def service(name: str, *children: dict[str, Any]) -> dict[str, Any]:
        host, port = address(name)
        return {"name": f"http://{host}:{port}", "endpoint": name, "children": children}

    own = service("details"), service("reviews", service("ratings"))
    return {"name": f"http://productpage:{PORT}", "endpoint": "productpage", "children": own}


def _count(service: str, status: int) -> None:
    with _lock:
        _results[service, status] += 1


def _metrics() -> str:
    with _lock:
        counted = sorted(_results.items())
    lines = ["# HELP request_result_total Results of requests", "# TYPE request_result_total counter"]
    lines += [
        f'request_result_total{{destination_app="{service}",response_code="{status}"}} {count}'
        for (service, status), count in counted
    ]
    return "\n".join(lines) + "\n"


def _html(content: str) -> Response:
    return Response(200, content.encode(), "text/html; charset=utf-8")


def main() -> None:
    serve(app, port_argument(PORT), "productpage")


if __name__ == "__main__":
    main()
