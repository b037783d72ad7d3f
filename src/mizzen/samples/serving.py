"""The small HTTP/1.1 server under the samples: threads, keep-alive, and an end that loses no request.

On SIGTERM the server goes on serving, for the endpoint's removal takes a moment to reach every proxy, and says
`Connection: close` on each answer. It ends when nothing was asked for `QUIET` seconds, or after `LONGEST_DRAIN`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

QUIET = 1.0
LONGEST_DRAIN = 20.0
BACKLOG = 512


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    """As on the request line: path and query, still encoded."""
    headers: Message
    """Looked up without regard to case; of several of a name the first is found."""
    pairs: tuple[tuple[str, str], ...]
    """All headers, in order."""
    body: bytes
    client: str

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def parameter(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


@dataclass(frozen=True, slots=True)
class Response:
    """`body` may be an iterator: then it is sent in chunks as they come."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


App = Callable[[Request], Response]


def text(content: str, status: int = 200) -> Response:
    return Response(status, content.encode())


def as_json(document: Any, status: int = 200, *, indent: int | None = None) -> Response:
    return Response(status, json.dumps(document, indent=indent).encode(), "application/json")


def pod_name() -> str:
    return os.environ.get("HOSTNAME") or socket.gethostname()


def port_argument(default: int) -> int:
    """The port: the first argument if it is a number, else $PORT, else the image's own."""
    given = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].isdecimal() else os.environ.get("PORT", "")
    return int(given) if given.isdecimal() else default


class Traffic:
    """How much is going on, so that one can tell when it is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active = 0
        self._last = time.monotonic()
        self.ending = False

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        with self._lock:
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1
                self._last = time.monotonic()

    def drain(self) -> None:
        """Returns when it has been quiet for a while."""
        begun, self.ending = time.monotonic(), True
        while time.monotonic() - begun < LONGEST_DRAIN:
            with self._lock:
                quiet = 0.0 if self._active else time.monotonic() - max(self._last, begun)
            if quiet >= QUIET:
                return
            time.sleep(0.05)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def answer(self) -> None:
        with self.server.traffic.request():
            began = time.monotonic()
            try:
                request = self._read()
            except ValueError as error:
                self.close_connection = True
                self._send(text(f"{error}\n", 400), head=False)
                return
            response = self._ask(request)
            self._send(response, head=self.command == "HEAD")
            took = (time.monotonic() - began) * 1000
            print(f'{request.client} "{self.requestline}" {response.status} {took:.1f}ms', flush=True)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _ask(self, request: Request) -> Response:
        try:
            return self.server.app(request)
        except Exception:
            traceback.print_exc()
            return text("Internal Server Error\n", 500)

    def _read(self) -> Request:
        pairs = tuple(self.headers.items())
        client = plain(self.client_address[0])
        return Request(self.command, self.path, self.headers, pairs, self._body(), client)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise ValueError("Content-Length is not a number")
        return self.rfile.read(int(length))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers say nothing that the samples need

    def _send(self, response: Response, *, head: bool) -> None:
        chunked = not isinstance(response.body, bytes)
        self.send_response(response.status)
        if response.status not in (204, 304):
            self.send_header("Content-Type", response.content_type)
            if isinstance(response.body, bytes):
                self.send_header("Content-Length", str(len(response.body)))
            else:
                self.send_header("Transfer-Encoding", "chunked")
        for name, value in response.headers:
            self.send_header(name, value)
        if self.server.traffic.ending:
            self.send_header("Connection", "close")  # also makes http.server close it
        self.end_headers()
        if head or response.status in (204, 304):
            return
        for piece in self._pieces(response.body) if chunked else (response.body,):
            assert isinstance(piece, bytes)
            self.wfile.write(piece)
            if chunked:
                self.wfile.flush()

    def _pieces(self, body: bytes | Iterable[bytes]) -> Iterator[bytes]:
        assert not isinstance(body, bytes)
        for piece in body:
            if piece:
                yield b"%x\r\n%s\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    def version_string(self) -> str:
        return self.server.name

    def send_response(self, code: int, message: str | None = None) -> None:
        """Any number is a status here, also one without a name."""
        known = code in HTTPStatus._value2member_map_
        super().send_response(code, message or (None if known else "Unknown"))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """`answer` logs, when it knows how long it took."""


def everywhere() -> tuple[socket.AddressFamily, str]:
    """Where to listen so that every address of the Pod answers: family and address. A bound socket of IPv6 takes IPv4
    too, if `take_both` is told first."""
    return (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")


def take_both(listener: socket.socket) -> None:
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def plain(address: str) -> str:
    """An IPv4 caller of an IPv6 socket, as it is written elsewhere."""
    return address.removeprefix("::ffff:")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, app: App, port: int, name: str) -> None:
        self.app, self.name, self.traffic = app, name, Traffic()
        self.address_family, address = everywhere()
        super().__init__((address, port), _Connection)

    def server_bind(self) -> None:
        """Without the reverse look-up of the host's name that http.server makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        take_both(self.socket)
        self.socket.bind(self.server_address)
        address, port = self.socket.getsockname()[:2]
        self.server_address = (address, port)
        self.server_name, self.server_port = address, port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def serve(app: App, port: int, name: str) -> None:
    """Serves on all addresses until SIGTERM or SIGINT has been dealt with."""
    server = _Server(app, port, name)
    wait_for_the_end = termination()
    threading.Thread(target=server.serve_forever, args=(None,), daemon=True).start()
    print(f"{name} is listening on port {server.server_port}", flush=True)
    wait_for_the_end()
    server.traffic.drain()
    server.socket.close()


def termination() -> Callable[[], int]:
    """What waits, in the main thread, for the next SIGTERM or SIGINT from now on, and says which it was."""
    # Whoever waits for a lock misses a signal that comes just before, and an Event's own lock may be held by the very
    # code that its handler interrupts. What the interpreter itself writes down of a signal can be read later.
    told, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return lambda: os.read(told, 1)[0]
