"""Productpage's HTML, from what the other services said."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "static" / "bookinfo.css").read_bytes()
STARS = 5
_STAR = "M10 1.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9L1.5 7.7l5.9-.8z"
_FACTS = {
    "ISBN-10": "ISBN-10",
    "publisher": "Publisher",
    "pages": "Pages",
    "type": "Type",
    "language": "Language",
    "author": "Author",
    "year": "Year",
}


def product_page(product: Mapping[str, Any], details: tuple[int, Any], reviews: tuple[int, Any], user: str) -> str:
    """`details` and `reviews` are status and document; whoever is signed in is `user`, or nobody."""
    return f"""{_head()}
<header>
  <a class="brand" href="/">Bookstore</a>
  {_who(user)}
</header>
<main>
  <h1>{escape(product["title"])}</h1>
  <p class="summary">{product["descriptionHtml"]}</p>
  <div class="columns">
    <section>{_details(*details)}</section>
    <div>{_reviews(*reviews)}</div>
  </div>
</main>
</body>
</html>
"""


def index_page(services: Mapping[str, Any]) -> str:
    return f"""{_head()}
<header><a class="brand" href="/">Bookstore</a></header>
<main>
  <h1>Hello! This is a simple bookstore application</h1>
  <p class="summary">It consists of the services below, each of which calls those beneath it.</p>
  {_service_table(services)}
  <p><a href="/productpage?u=normal">Normal user</a> · <a href="/productpage?u=test">Test user</a></p>
</main>
</body>
</html>
"""


def _head() -> str:
    return """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Simple Bookstore App</title>
<link rel="stylesheet" href="/static/bookinfo.css">
<link rel="icon" href="data:,">
</head>
<body>"""


def _who(user: str) -> str:
    if user:
        return f'<span>{escape(user)} (<a href="/logout">sign out</a>)</span>'
    return """<form class="sign-in" method="post" action="/login">
    <input name="username" placeholder="User name" aria-label="User name" autocomplete="username" required>
    <input name="passwd" type="password" placeholder="Password" aria-label="Password" autocomplete="off">
    <button type="submit">Sign in</button>
  </form>"""


def _details(status: int, document: Any) -> str:
    if status != 200:
        return f'<h2 class="error">Error fetching product details</h2><p>{escape(document["error"])}</p>'
    facts = (
        f"<dt>{label}:</dt><dd>{escape(str(document[key]))}</dd>" for key, label in _FACTS.items() if key in document
    )
    return f"<h2>Book Details</h2><dl>{''.join(facts)}</dl>"


def _reviews(status: int, document: Any) -> str:
    if status != 200:
        message = f'<h2 class="error">Error fetching product reviews</h2><p>{escape(document["error"])}</p>'
        return f"<section>{message}</section>"
    quotes = "".join(_review(review, document) for review in document["reviews"])
    return f"<h2>Book Reviews</h2>{quotes}"


def _review(review: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    return f"""
<blockquote>
  <p>"{escape(review["text"])}"</p>
  {_rating(review.get("rating"))}
  <footer>
    <span>{escape(review["reviewer"])}</span>
    <span class="served">Reviews served by: {_server(document)}</span>
  </footer>
</blockquote>"""


def _server(document: Mapping[str, Any]) -> str:
    cluster = document.get("clustername", "null")
    return escape(document["podname"]) + ("" if cluster == "null" else f" on cluster {escape(cluster)}")


def _rating(rating: Mapping[str, Any] | None) -> str:
    if rating is None:
        return ""
    if "stars" not in rating:
        return f'<p class="error">{escape(rating.get("error", "No rating"))}</p>'
    icons = "".join(_icon(filled=number < rating["stars"]) for number in range(STARS))
    return f'<div class="flex gap-x-1 text-{escape(rating["color"])}-500">{icons}</div>'


def _icon(*, filled: bool) -> str:
    if filled:
        return f'<svg id="glyphicon glyphicon-star" viewBox="0 0 20 20" aria-hidden="true"><path d="{_STAR}"/></svg>'
    outline = 'fill="none" stroke="currentColor" stroke-width="1.2"'
    return f'<svg id="glyphicon glyphicon-star-empty" viewBox="0 0 20 20"><path {outline} d="{_STAR}"/></svg>'


def _service_table(service: Mapping[str, Any]) -> str:
    rows = [f"<tr><th>name</th><td>{escape(service['name'])}</td></tr>"]
    rows.append(f"<tr><th>endpoint</th><td>{escape(service['endpoint'])}</td></tr>")
    if service["children"]:
        children = "".join(_service_table(child) for child in service["children"])
        rows.append(f"<tr><th>children</th><td>{children}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
