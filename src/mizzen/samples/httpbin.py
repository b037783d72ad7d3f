"""httpbin: answers with what it was asked, in the forms of https://httpbin.org and of its successor go-httpbin.

`python -m mizzen.samples.httpbin [PORT]`. Values of headers and queries are lists, as go-httpbin gives them; with
$HTTPBIN_VALUES=plain they are strings, as the first httpbin gave them.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from mizzen.samples.serving import Request, Response, port_argument, serve, text

PORT = 8080
LONGEST_DELAY = 10.0
MOST_BYTES = 100 * 1024
MOST_LINES = 100
PAGE = b"""<!DOCTYPE html>
<html>
<head><title>A page</title></head>
<body><h1>Of the whale</h1><p>Some HTML to be fetched, with a heading and a paragraph.</p></body>
</html>
"""
_DOCUMENT = {"slideshow": {"title": "Sample slides", "slides": [{"type": "all", "title": "Why a mesh?"}]}}
_ROBOTS = "User-agent: *\nDisallow: /deny\n"

Page = Callable[..., Response]


def as_json(document: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, json.dumps(document, indent=2).encode() + b"\n", "application/json", headers)


def _values(values: list[str]) -> Any:
    return values[-1] if os.environ.get("HTTPBIN_VALUES") == "plain" else values


def _headers(request: Request) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for name, value in request.pairs:
        found.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    return {name: _values(values) for name, values in sorted(found.items())}


def _origin(request: Request) -> str:
    return request.headers.get("X-Forwarded-For", request.client).split(",")[0].strip()


def _url(request: Request) -> str:
    scheme = request.headers.get("X-Forwarded-Proto", "http")
    return f"{scheme}://{request.headers.get('Host', 'localhost')}{request.target}"


def _asked(request: Request) -> dict[str, Any]:
    arguments = {name: _values(values) for name, values in request.query.items()}
    return {
        "args": arguments,
        "headers": _headers(request),
        "method": request.method,
        "origin": _origin(request),
        "url": _url(request),
    }


def _sent(request: Request) -> dict[str, Any]:
    kind = request.headers.get("Content-Type", "")
    content = request.body.decode("utf-8", errors="replace")
    form: dict[str, Any] = {}
    document = None
    if kind.startswith("application/x-www-form-urlencoded"):
        form = {name: _values(values) for name, values in parse_qs(content, keep_blank_values=True).items()}
    elif kind.startswith("application/json") or content.startswith(("{", "[")):
        try:
            document = json.loads(content)
        except ValueError:
            document = None  # then `data` alone tells what came
    return {**_asked(request), "data": content, "form": form, "files": {}, "json": document}


def _anything(request: Request, _: str = "") -> Response:
    return as_json(_sent(request))


def _status(request: Request, codes: str) -> Response:
    """One code, or several to choose from: `200,503` or with weights `200:0.9,503:0.1`."""
    choices = [part.partition(":") for part in codes.split(",")]
    weights = [float(weight or 1) for _, _, weight in choices]
    code = int(random.choices([code for code, _, _ in choices], weights)[0])  # noqa: S311 - a test server's dice
    if not 200 <= code <= 599:
        return as_json({"error": f"{code} is not a status to answer with"}, 400)
    redirected = (("Location", "/redirect/1"),) if code in (301, 302, 303, 307, 308) else ()
    challenge = (("WWW-Authenticate", 'Basic realm="Fake Realm"'),) if code == 401 else ()
    return Response(code, b"", headers=redirected + challenge)


def _delay(request: Request, seconds: str) -> Response:
    time.sleep(min(float(seconds), LONGEST_DELAY))
    return as_json(_sent(request))


def _bytes(request: Request, count: str) -> Response:
    dice = random.Random(request.parameter("seed") or None)  # noqa: S311 - reproducible bytes, no secrets
    return Response(200, dice.randbytes(min(int(count), MOST_BYTES)), "application/octet-stream")


def _stream(request: Request, count: str) -> Response:
    def lines() -> Iterator[bytes]:
        for number in range(min(int(count), MOST_LINES)):
            yield json.dumps({**_asked(request), "id": number}).encode() + b"\n"

    return Response(200, lines(), "application/json")


def _drip(request: Request) -> Response:
    count = max(1, min(int(request.parameter("numbytes", "10")), MOST_BYTES))
    pause = min(float(request.parameter("duration", "2")), LONGEST_DELAY) / count
    time.sleep(min(float(request.parameter("delay", "0")), LONGEST_DELAY))

    def drops() -> Iterator[bytes]:
        for _ in range(count):
            time.sleep(pause)
            yield b"*"

    return Response(int(request.parameter("code", "200")), drops(), "application/octet-stream")


def _redirect(request: Request, count: str) -> Response:
    left = int(count) - 1
    return Response(302, b"", headers=(("Location", f"/relative-redirect/{left}" if left > 0 else "/get"),))


def _absolute_redirect(request: Request, count: str) -> Response:
    left, host = int(count) - 1, request.headers.get("Host", "localhost")
    target = f"http://{host}/absolute-redirect/{left}" if left > 0 else f"http://{host}/get"
    return Response(302, b"", headers=(("Location", target),))


def _redirect_to(request: Request) -> Response:
    status = int(request.parameter("status_code", "302"))
    return Response(status, b"", headers=(("Location", request.parameter("url")),))


def _cookies(request: Request) -> Response:
    jar = SimpleCookie(request.headers.get("Cookie", ""))
    return as_json({"cookies": {name: morsel.value for name, morsel in jar.items()}})


def _set_cookies(request: Request) -> Response:
    cookies = tuple(("Set-Cookie", f"{name}={values[0]}; Path=/") for name, values in request.query.items())
    return Response(302, b"", headers=(("Location", "/cookies"), *cookies))


def _delete_cookies(request: Request) -> Response:
    cookies = tuple(("Set-Cookie", f"{name}=; Path=/; Max-Age=0") for name in request.query)
    return Response(302, b"", headers=(("Location", "/cookies"), *cookies))


def _basic_auth(request: Request, user: str, password: str) -> Response:
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    if request.headers.get("Authorization", "") == wanted:
        return as_json({"authenticated": True, "authorized": True, "user": user})
    return Response(401, b"", headers=(("WWW-Authenticate", 'Basic realm="Fake Realm"'),))


def _bearer(request: Request) -> Response:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer" and token:
        return as_json({"authenticated": True, "token": token})
    return Response(401, b"", headers=(("WWW-Authenticate", "Bearer"),))


def _gzip(request: Request) -> Response:
    content = json.dumps({**_asked(request), "gzipped": True}).encode()
    return Response(200, gzip.compress(content), "application/json", (("Content-Encoding", "gzip"),))


def _deflate(request: Request) -> Response:
    content = json.dumps({**_asked(request), "deflated": True}).encode()
    return Response(200, zlib.compress(content), "application/json", (("Content-Encoding", "deflate"),))


def _response_headers(request: Request) -> Response:
    asked = tuple((name, value) for name, values in request.query.items() for value in values)
    return as_json({name: _values(values) for name, values in request.query.items()}, headers=asked)


def _cache(request: Request) -> Response:
    if "If-None-Match" in request.headers or "If-Modified-Since" in request.headers:
        return Response(304)
    return as_json(_asked(request), headers=(("ETag", '"mizzen"'),))


def _etag(request: Request, tag: str) -> Response:
    if request.headers.get("If-None-Match", "").strip('"') == tag:
        return Response(304, headers=(("ETag", f'"{tag}"'),))
    return as_json(_asked(request), headers=(("ETag", f'"{tag}"'),))


def _base64(_: Request, encoded: str) -> Response:
    try:
        return text(base64.urlsafe_b64decode(encoded).decode())
    except ValueError as error:
        return text(f"{error}\n", 400)


def _route(methods: str, pattern: str, answer: Page) -> tuple[frozenset[str], re.Pattern[str], Page]:
    return frozenset(methods.split()), re.compile(pattern), answer


READ, ANY = "GET HEAD", "GET HEAD POST PUT PATCH DELETE OPTIONS"
ROUTES = (
    _route(READ, r"/", lambda _: Response(200, PAGE, "text/html; charset=utf-8")),
    _route(READ, r"/get", lambda request: as_json(_asked(request))),
    *(_route(verb.upper(), f"/{verb}", _anything) for verb in ("post", "put", "patch", "delete")),
    _route(ANY, r"/anything(/.*)?", _anything),
    _route(ANY, r"/status/([\d,:.]+)", _status),
    _route(ANY, r"/delay/([\d.]+)", _delay),
    _route(READ, r"/headers", lambda request: as_json({"headers": _headers(request)})),
    _route(READ, r"/ip", lambda request: as_json({"origin": _origin(request)})),
    _route(READ, r"/user-agent", lambda request: as_json({"user-agent": request.headers.get("User-Agent", "")})),
    _route(READ, r"/uuid", lambda _: as_json({"uuid": str(uuid.uuid4())})),
    _route(READ, r"/bytes/(\d+)", _bytes),
    _route(READ, r"/stream/(\d+)", _stream),
    _route(READ, r"/drip", _drip),
    _route(READ, r"/(?:relative-)?redirect/(\d+)", _redirect),
    _route(READ, r"/absolute-redirect/(\d+)", _absolute_redirect),
    _route(ANY, r"/redirect-to", _redirect_to),
    _route(READ, r"/cookies", _cookies),
    _route(READ, r"/cookies/set", _set_cookies),
    _route(READ, r"/cookies/delete", _delete_cookies),
    _route(READ, r"/(?:hidden-)?basic-auth/([^/]+)/([^/]+)", _basic_auth),
    _route(READ, r"/bearer", _bearer),
    _route(READ, r"/gzip", _gzip),
    _route(READ, r"/deflate", _deflate),
    _route("GET HEAD POST", r"/response-headers", _response_headers),
    _route(READ, r"/cache", _cache),
    _route(READ, r"/etag/([^/]+)", _etag),
    _route(READ, r"/base64/(?:decode/)?(.+)", _base64),
    _route(READ, r"/html", lambda _: Response(200, PAGE, "text/html; charset=utf-8")),
    _route(READ, r"/json", lambda _: as_json(_DOCUMENT)),
    _route(READ, r"/xml", lambda _: Response(200, b'<?xml version="1.0"?>\n<slideshow/>\n', "application/xml")),
    _route(READ, r"/encoding/utf8", lambda _: text("∮ E⋅da = Q · grüß Gott · こんにちは\n")),
    _route(READ, r"/robots.txt", lambda _: text(_ROBOTS)),
    _route(READ, r"/deny", lambda _: text("You should not be here.\n")),
    _route(READ, r"/hostname", lambda _: as_json({"hostname": os.environ.get("HOSTNAME", "")})),
)


def app(request: Request) -> Response:
    """The page that path and method lead to; wrong numbers in a path or query are the caller's mistake."""
    found = [(methods, match, page) for methods, path, page in ROUTES if (match := path.fullmatch(request.path))]
    if not found:
        return as_json({"error": "Not Found"}, 404)
    allowed = [(match, page) for methods, match, page in found if request.method in methods]
    if not allowed:
        return as_json({"error": "Method Not Allowed"}, 405, (("Allow", ", ".join(sorted(found[0][0]))),))
    match, page = allowed[0]
    try:
        return page(request, *(group for group in match.groups() if group is not None))
    except ValueError as error:
        return as_json({"error": str(error)}, 400)


def main() -> None:
    serve(app, port_argument(PORT), "httpbin")


if __name__ == "__main__":
    main()
