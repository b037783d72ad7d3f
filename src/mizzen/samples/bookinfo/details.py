"""The details service: author, pages, ISBN.

`python -m mizzen.samples.bookinfo.details [PORT]`. $ENABLE_EXTERNAL_BOOK_SERVICE=true asks Google Books instead, by
HTTPS, or by HTTP with $DO_NOT_ENCRYPT=true (then a mesh may originate TLS).
"""

from __future__ import annotations

import http.client
import json
import os
import re
from typing import Any

from mizzen.samples.bookinfo.calls import PORT, propagated
from mizzen.samples.serving import Request, Response, as_json, port_argument, serve, text

BOOKS_HOST = "www.googleapis.com"
ISBN = "0486424618"
TIMEOUT = 5.0


def app(request: Request) -> Response:
    if request.path == "/health":
        return as_json({"status": "Details is healthy"})
    if match := re.fullmatch(r"/details(?:/(.*))?", request.path):
        number = match[1] or ""
        if not re.fullmatch(r"-?\d+", number):
            return as_json({"error": "please provide numeric product id"}, 400)
        return _details(int(number), request)
    return text("Not Found\n", 404)


def _details(number: int, request: Request) -> Response:
    if os.environ.get("ENABLE_EXTERNAL_BOOK_SERVICE") == "true":
        try:
            return as_json(_external(number, propagated(request)))
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            return as_json({"error": f"the external book service failed: {error}"}, 500)
    return as_json(
        {
            "id": number,
            "author": "William Shakespeare",
            "year": 1595,
            "type": "paperback",
            "pages": 200,
            "publisher": "PublisherA",
            "language": "English",
            "ISBN-10": "1234567890",
            "ISBN-13": "123-1234567890",
        }
    )


def _external(number: int, headers: dict[str, str]) -> dict[str, Any]:
    plain = os.environ.get("DO_NOT_ENCRYPT") == "true"
    kind = http.client.HTTPConnection if plain else http.client.HTTPSConnection
    connection = kind(BOOKS_HOST, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/books/v1/volumes?q=isbn:{ISBN}", headers=headers)
        book = json.loads(connection.getresponse().read())["items"][0]["volumeInfo"]
    finally:
        connection.close()
    identifiers = {each["type"]: each["identifier"] for each in book["industryIdentifiers"]}
    return {
        "id": number,
        "author": book["authors"][0],
        "year": book["publishedDate"],
        "type": "paperback" if book["printType"] == "BOOK" else "unknown",
        "pages": book["pageCount"],
        "publisher": book["publisher"],
        "language": "English" if book["language"] == "en" else "unknown",
        "ISBN-10": identifiers["ISBN_10"],
        "ISBN-13": identifiers["ISBN_13"],
    }


def main() -> None:
    serve(app, port_argument(PORT), "details")


if __name__ == "__main__":
    main()
