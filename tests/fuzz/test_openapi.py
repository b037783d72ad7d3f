"""Requests that schemathesis makes up from the API server's own OpenAPI: no 5xx, no traceback, no stuck watch.

`./dev fuzz [SECONDS]` runs this in an environment of its own; without a number, a minute.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from apiservers import ApiServer

schemathesis = pytest.importorskip("schemathesis", reason="./dev fuzz installs it")
requests = pytest.importorskip("requests")
hypothesis = pytest.importorskip("hypothesis")

SECONDS = float(os.environ.get("MIZZEN_FUZZ_SECONDS", "60"))
HONEST = {503, 504}
"""There is no node here, and a revision of the future does not come."""
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def session(server: ApiServer) -> Iterator[Any]:
    with requests.Session() as made:
        made.trust_env = False
        made.verify = str(server.pki.ca)
        made.cert = (str(server.pki.certificate("admin")), str(server.pki.key("admin")))
        yield made


def operations(server: ApiServer, session: Any) -> list[Any]:
    """Of every group version."""
    found = []
    for place in session.get(f"{server.server}/openapi/v3").json()["paths"].values():
        document = session.get(server.server + place["serverRelativeURL"]).json()
        found += [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]
    return found


def ask(session: Any, server: ApiServer, case: Any) -> None:
    """One request; a watch is read for a moment."""
    with suppress(requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL):
        request = session.prepare_request(requests.Request(**sent(case, server.server)))
        told = f"{request.method} {request.url} {dict(request.headers)} {request.body!r:.2000}"
        try:
            judge(session.send(request, stream=True, timeout=20, verify=session.verify, cert=session.cert), told)
        except requests.exceptions.RequestException as error:
            raise AssertionError(f"{told} -> {error}") from None


def judge(received: Any, told: str) -> None:
    with received as answer:
        if answer.status_code >= 500 and answer.status_code not in HONEST:
            raise AssertionError(f"{told} -> {answer.status_code} {answer.text:.500}")
        if answer.status_code >= 400:
            assert answer.json()["kind"] == "Status", told
        elif "watch" not in answer.url:
            answer.content  # noqa: B018 - to read it


def sent(case: Any, base: str) -> dict[str, Any]:
    """As keyword arguments of `requests.Request`."""
    known = {"method", "url", "headers", "params", "cookies", "data", "json", "files"}
    return {key: value for key, value in case.as_transport_kwargs(base_url=base).items() if key in known}


def placed(case: Any) -> Any:
    """Most requests should meet something that exists."""
    parameters = case.path_parameters or {}
    if "namespace" in parameters and random.random() < 0.9:
        parameters["namespace"] = "default"
    if "name" in parameters and random.random() < 0.7:
        parameters["name"] = random.choice(("a", "kubernetes", "default", "kube-root-ca.crt"))
    body = case.body
    if isinstance(body, dict) and random.random() < 0.7:
        metadata = body.get("metadata")
        body["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "name": "a", "namespace": "default"}
        for key in ("kind", "apiVersion", "namespace"):
            body.pop(key, None)
    return case


def test_what_schemathesis_makes_up(server: ApiServer, session: Any) -> None:
    offered = operations(server, session)
    random.shuffle(offered)
    end, asked = time.monotonic() + SECONDS, 0
    problems: list[str] = []

    def one(case: Any) -> None:
        nonlocal asked
        asked += 1
        try:
            ask(session, server, placed(case))
        except AssertionError as error:
            problems.append(str(error))

    settings = hypothesis.settings(
        max_examples=10, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    while time.monotonic() < end:
        for operation in offered:
            if time.monotonic() >= end:
                break
            with suppress(hypothesis.errors.Unsatisfiable):
                settings(hypothesis.seed(asked)(hypothesis.given(operation.as_strategy())(one)))()
    print(f"{asked} requests to {len(offered)} operations")
    told = "\n\n".join(problems[:30])
    assert not problems, f"{len(problems)} of {asked}:\n{told}\n{server.log()[-10000:]}"
    assert "Traceback" not in server.log(), server.log()[-5000:]
    assert asked > SECONDS


def test_a_watch_is_not_stuck_afterwards(server: ApiServer, session: Any) -> None:
    place = f"{server.server}/api/v1/namespaces/default/configmaps"
    since = session.get(place, timeout=20).json()["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": since, "fieldSelector": "metadata.name=after"}
    with session.get(place, params=query, stream=True, timeout=20) as watch:
        made = session.post(place, json={"metadata": {"name": "after"}}, timeout=20)
        assert made.status_code == 201, made.text
        assert json.loads(next(watch.iter_lines()))["object"]["metadata"]["name"] == "after"
