"""The samples as processes: real HTTP on loopback, and an end that loses no request."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

PROPAGATED = {
    "x-request-id": "r",
    "x-ot-span-context": "o",
    "x-datadog-trace-id": "1",
    "x-datadog-parent-id": "2",
    "x-datadog-sampling-priority": "3",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "a=b",
    "x-cloud-trace-context": "c",
    "grpc-trace-bin": "g",
    "x-b3-traceid": "4",
    "x-b3-spanid": "5",
    "x-b3-parentspanid": "6",
    "x-b3-sampled": "1",
    "x-b3-flags": "0",
    "sw8": "s",
    "user-agent": "tester",
    "authorization": "Bearer x",
    "jwt": "j",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One sample, listening."""

    def __init__(self, module: str, *arguments: str, port: int | None = None, **env: str) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", f"mizzen.samples.{module}", *(arguments or (str(self.port),))]
        self.process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while "listening" not in self.process.stdout.readline():
            assert self.process.poll() is None, f"{module} ended"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def json(self, path: str, **headers: str) -> Any:
        return json.loads(self.ask(path, **headers)[1])

    def end(self) -> int:
        """Ends it as a kubelet would; returns the exit code."""
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=10)
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def started() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.kill()


def bookinfo(started: list[Program], **reviews: str) -> Program:
    """All four services on loopback; returns productpage."""
    details, ratings = Program("bookinfo.details"), Program("bookinfo.ratings")
    where = {"DETAILS_HOSTNAME": "127.0.0.1", "DETAILS_SERVICE_PORT": str(details.port)}
    where |= {"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": str(ratings.port)}
    reviewing = Program("bookinfo.reviews", HOSTNAME="reviews-pod-1", **where, **reviews)
    where |= {"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": str(reviewing.port)}
    page = Program("bookinfo.productpage", **where)
    started += [details, ratings, reviewing, page]
    return page


V2 = {"ENABLE_RATINGS": "true", "STAR_COLOR": "black"}
V3 = {"ENABLE_RATINGS": "true", "STAR_COLOR": "red"}


@pytest.mark.parametrize(("version", "color"), [({}, None), (V2, "black"), (V3, "red")], ids=["v1", "v2", "v3"])
def test_product_page_shows_the_version(started: list[Program], version: dict[str, str], color: str | None) -> None:
    page = bookinfo(started, **version)
    status, content, headers = page.ask("/productpage")
    html = content.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    for wanted in ("<title>Simple Bookstore App</title>", "The Comedy of Errors", "Book Details", "Book Reviews"):
        assert wanted in html
    assert html.count("Reviews served by: reviews-pod-1") == 2
    assert html.count('<svg id="glyphicon glyphicon-star"') == (9 if color else 0)
    assert html.count('<div class="flex gap-x-1 text-') == html.count(f"text-{color}-500") == (2 if color else 0)
    assert page.ask("/static/bookinfo.css")[0] == 200


def test_product_page_tells_which_service_is_away(started: list[Program]) -> None:
    page = bookinfo(started, **V2)
    details, ratings, reviews, _ = started
    ratings.kill()
    assert page.ask("/productpage")[1].decode().count("Ratings service is currently unavailable") == 2
    details.kill()
    reviews.kill()
    status, content, _ = page.ask("/productpage")
    html = content.decode()
    assert status == 200
    assert "Error fetching product details" in html and "Error fetching product reviews" in html
    assert "Sorry, product details are currently unavailable for this book." in html
    assert "Sorry, product reviews are currently unavailable for this book." in html
    assert page.ask("/api/v1/products/0/reviews")[0] == 500
    metrics = page.ask("/metrics")[1].decode()
    assert 'request_result_total{destination_app="reviews",response_code="500"} 4' in metrics
    assert 'request_result_total{destination_app="details",response_code="200"} 1' in metrics


def test_sign_in_and_out(started: list[Program]) -> None:
    page = Program(
        "bookinfo.productpage", DETAILS_HOSTNAME="127.0.0.1", DETAILS_SERVICE_PORT="1", REVIEWS_SERVICE_PORT="1"
    )
    started.append(page)
    status, _, headers = page.ask("/login", "POST", b"username=jason&passwd=x", Referer="http://here/productpage")
    assert (status, headers["Location"]) == (302, "http://here/productpage")
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert cookie.startswith("session=")
    assert "jason (<a" in page.ask("/productpage", Cookie=cookie)[1].decode()
    status, _, headers = page.ask("/logout", Cookie=cookie)
    assert status == 302 and "Max-Age=0" in headers["Set-Cookie"]
    assert "Sign in" in page.ask("/productpage")[1].decode()
    assert "Sign in" in page.ask("/productpage", Cookie="session=%%%")[1].decode()


def test_headers_are_handed_on_along_the_whole_chain(started: list[Program]) -> None:
    """An echo stands in for the services that productpage and reviews call."""
    echo = Program("echo", "--port", str(port := free_port()), "--grpc", "0", port=port)
    started.append(echo)
    where = {f"{name}_HOSTNAME": "127.0.0.1" for name in ("DETAILS", "REVIEWS", "RATINGS")}
    where |= {f"{name}_SERVICE_PORT": str(port) for name in ("DETAILS", "REVIEWS", "RATINGS")}
    page = Program("bookinfo.productpage", **where)
    started.append(page)
    login = page.ask("/login", "POST", b"username=jason")[2]["Set-Cookie"].partition(";")[0]
    seen = page.json("/api/v1/products/0/ratings", Cookie=login, x_unrelated="no", **PROPAGATED)["headers"]
    assert PROPAGATED.items() <= seen.items()
    assert (seen["end-user"], seen["cookie"]) == ("jason", login) and "x-unrelated" not in seen


def test_reviews_hand_headers_on_to_ratings(started: list[Program]) -> None:
    port = free_port()
    got: list[str] = []
    ready = threading.Event()

    def play_ratings() -> None:
        with socket.create_server(("127.0.0.1", port)) as listener:
            ready.set()
            connection, _ = listener.accept()
            with connection:
                got.append(connection.recv(65536).decode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    playing = threading.Thread(target=play_ratings)
    playing.start()
    ready.wait()
    reviews = Program("bookinfo.reviews", RATINGS_HOSTNAME="127.0.0.1", RATINGS_SERVICE_PORT=str(port), **V3)
    started.append(reviews)
    document = reviews.json("/reviews/0", **{"end-user": "jason", "cookie": "session=x", **PROPAGATED})
    playing.join()
    assert document["reviews"][0]["rating"] == {"error": "Ratings service is currently unavailable"}
    for name, value in {"end-user": "jason", "cookie": "session=x", **PROPAGATED}.items():
        assert f"{name}: {value}" in got[0]


def test_the_small_services(started: list[Program]) -> None:
    details, ratings, reviews = (Program(f"bookinfo.{name}") for name in ("details", "ratings", "reviews"))
    started += [details, ratings, reviews]
    assert details.json("/details/0")["ISBN-10"] == "1234567890"
    assert details.ask("/details/x")[0::2][0] == 400
    assert details.json("/health") == {"status": "Details is healthy"}
    assert ratings.json("/ratings/0") == {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
    assert ratings.json("/ratings/x") == {"error": "please provide numeric product ID"}
    assert ratings.ask("/ratings/0", "POST", b'{"Reviewer1": 1}')[0] == 200
    assert ratings.json("/ratings/0")["ratings"] == {"Reviewer1": 1}
    assert ratings.ask("/ratings/0", "POST", b"nonsense")[0] == 400
    document = reviews.json("/reviews/0")
    assert document["id"] == "0" and document["clustername"] == "null"
    assert [review.keys() for review in document["reviews"]] == [{"reviewer", "text"}] * 2
    assert reviews.json("/health") == {"status": "Reviews is healthy"}


def test_faulty_ratings(started: list[Program]) -> None:
    faulty, database = (Program("bookinfo.ratings", SERVICE_VERSION=version) for version in ("v-faulty", "v2"))
    started += [faulty, database]
    codes = {faulty.ask("/ratings/0")[0] for _ in range(64)}
    assert codes == {200, 503}
    assert database.ask("/ratings/0", "POST", b"{}")[0] == 501


def test_helloworld(started: list[Program]) -> None:
    hello = Program("helloworld", SERVICE_VERSION="v2", HOSTNAME="hello-pod")
    started.append(hello)
    assert hello.ask("/hello")[1] == b"Hello version: v2, instance: hello-pod\n"


def test_httpbin(started: list[Program]) -> None:
    bin, plain = Program("httpbin"), Program("httpbin", HTTPBIN_VALUES="plain")
    started += [bin, plain]
    assert bin.json("/headers", x_a="1")["headers"]["X-A"] == ["1"]
    assert plain.json("/headers", x_a="1")["headers"]["X-A"] == "1"
    assert bin.json("/get?a=1&a=2")["args"] == {"a": ["1", "2"]}
    assert [bin.ask(f"/status/{code}")[0] for code in (200, 204, 418, 503)] == [200, 204, 418, 503]
    assert bin.ask("/post", "POST", b'{"x": 1}', Content_Type="application/json")[0] == 200
    assert json.loads(bin.ask("/anything/x", "PUT", b"a=b", Content_Type="application/x-www-form-urlencoded")[1])[
        "form"
    ] == {"a": ["b"]}
    assert bin.ask("/post")[0] == 405 and bin.ask("/nowhere")[0] == 404
    assert len(bin.ask("/bytes/1000")[1]) == 1000
    assert len(bin.ask("/stream/5")[1].splitlines()) == 5
    assert bin.ask("/redirect/2")[2]["Location"] == "/relative-redirect/1"
    assert bin.ask("/basic-auth/u/p")[0] == 401
    assert bin.ask("/basic-auth/u/p", Authorization="Basic dTpw")[0] == 200
    assert bin.json("/cookies", Cookie="a=1; b=2")["cookies"] == {"a": "1", "b": "2"}
    assert bin.ask("/gzip")[2]["Content-Encoding"] == "gzip"
    assert bin.ask("/html", "HEAD")[1] == b""
    assert bin.json("/user-agent", User_Agent="me") == {"user-agent": "me"}
    began = time.monotonic()
    bin.ask("/delay/0.3")
    assert 0.3 <= time.monotonic() - began < 2


def test_chunked_requests_are_understood(started: list[Program]) -> None:
    bin = Program("httpbin")
    started.append(bin)
    connection = http.client.HTTPConnection("127.0.0.1", bin.port)
    for _ in range(2):  # a second request on the same connection shows that nothing was left over
        connection.request("POST", "/post", iter([b"ab", b"cd"]), {"Content-Type": "text/plain"}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["data"] == "abcd"
    connection.close()


def test_tcp_echo(started: list[Program]) -> None:
    first, second = free_port(), free_port()
    started.append(Program("tcp_echo", f"{first},{second}", "one"))
    for port in (first, second):
        with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rwb") as stream:
            stream.write(b"hello\nworld\n")
            stream.flush()
            assert [stream.readline(), stream.readline()] == [b"one hello\n", b"one world\n"]


def test_tcp_server_that_speaks_first(started: list[Program]) -> None:
    port = free_port()
    started.append(Program("tcp_echo", str(port), "x", "--server-first", "220 ready"))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert connection.recv(100) == b"220 ready\n"


def test_echo_fails_as_often_as_asked(started: list[Program]) -> None:
    echo = Program("echo", "--port", str(port := free_port()), "--grpc", "0", port=port, SERVICE_VERSION="v2")
    started.append(echo)
    codes = [echo.ask("/x?fail=2&fail-key=k")[0] for _ in range(4)]
    assert codes == [503, 503, 200, 200]
    assert [echo.ask("/x", x_fail="1", x_request_id="r")[0] for _ in range(2)] == [503, 200]
    assert echo.json("/count?key=k") == {"count": 4}
    assert [echo.ask(f"/x?fail=1&fail-key={at}&fail-at={at}")[0] for at in ("v1", "v2")] == [200, 503]
    begun = time.monotonic()
    assert echo.ask("/x?delay=0.2")[0] == 200 and time.monotonic() - begun >= 0.2
    answer = echo.json("/a/b?c=d", x_Test="1")
    assert (answer["version"], answer["path"], answer["headers"]["x-test"]) == ("v2", "/a/b", "1")


def test_echo_by_grpc(started: list[Program]) -> None:
    import grpc

    port, grpc_port = free_port(), free_port()
    started.append(Program("echo", "--port", str(port), "--grpc", str(grpc_port), port=port, HOSTNAME="echo-pod"))
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        call = channel.unary_unary("/proto.EchoTestService/Echo")
        answer = call(b"\x0a\x02hi", metadata=(("x-test", "1"),), timeout=5)
        health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
    assert health == b"\x08\x01"
    document = json.loads(answer[answer.index(b"{") :])
    assert (document["hostname"], document["body"], document["headers"]["x-test"]) == ("echo-pod", "hi", "1")


def test_sleep_ends_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-m", "mizzen.samples.sleep"])
    try:
        while not catches_sigterm(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0 and time.monotonic() - began < 0.5
    finally:
        process.kill()


def test_the_end_is_heard_at_any_moment() -> None:
    """Also while the program is just beginning to wait for it: 5,000 signals, at 1 to 100 microseconds."""
    code = (
        "import faulthandler, signal; from mizzen.samples.serving import termination\n"
        "faulthandler.dump_traceback_later(20, exit=True)\n"
        "wait = termination()\n"
        "signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))\n"
        "for number in range(5000):\n"
        "    signal.setitimer(signal.ITIMER_REAL, (1 + number % 100) / 1e6)\n"
        "    assert wait() == signal.SIGALRM\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert ended.returncode == 0, ended.stderr


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def canary(version: str, port: int) -> list[str]:
    from mizzen.samples.canary import app

    return [sys.executable, str(app.__file__), version, str(port)]


@pytest.mark.parametrize("which", ["helloworld", "canary"])
def test_sigterm_loses_no_request(started: list[Program], which: str) -> None:
    """One keep-alive client and a stream of new connections ask on, until they are told to close."""
    port = free_port()
    if which == "canary":
        process = subprocess.Popen(canary("1.0", port), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and "listening" in process.stdout.readline()
    else:
        started.append(program := Program("helloworld", port=port))
        process = program.process
    failures: list[BaseException] = []
    closes: list[float] = []
    stop = threading.Event()

    def ask_on() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        while not stop.is_set():
            try:
                connection.request("GET", "/hello")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            if answer.headers.get("Connection") == "close":
                closes.append(time.monotonic())
            time.sleep(0.002)
        connection.close()

    clients = [threading.Thread(target=ask_on) for _ in range(4)]
    for client in clients:
        client.start()
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)  # as long as the news may take to every proxy
    stop.set()
    for client in clients:
        client.join()
    process.communicate(timeout=10)
    assert not failures and process.returncode == 0
    assert closes, "no answer said Connection: close"


def test_a_slow_request_is_finished_before_the_end(started: list[Program]) -> None:
    bin = Program("httpbin")
    started.append(bin)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(bin.ask("/delay/1.2")[0]))
    client.start()
    time.sleep(0.2)
    assert bin.end() == 0
    client.join()
    assert answers == [200]


def test_importing_the_samples_is_cheap() -> None:
    """They are preloaded, and forked: no module of theirs may bring gRPC, aiohttp or anything of ours."""
    code = (
        "import sys, importlib; from mizzen.samples.images import IMAGES;"
        "names = {v if isinstance(v, str) else v['function'] for v in IMAGES.values()};"
        "[importlib.import_module(n.partition(':')[0]) for n in names];"
        "heavy = {'grpc', 'aiohttp', 'msgspec', 'asyncio', 'mizzen.kube', 'mizzen.api'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
