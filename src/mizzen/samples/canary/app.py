"""my-app: a web server that says its version. The standard library is all it needs.

    python app.py VERSION [PORT]

It ends as a server in a mesh should: after SIGTERM it answers on, with `Connection: close`, until nobody asks any more.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

QUIET_SECONDS = 1.0


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    version = "1.0"
    ending = False
    last: ClassVar[list[float]] = [0.0]

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        host = os.environ.get("HOSTNAME", socket.gethostname())
        body = json.dumps({"app": "my-app", "version": App.version, "pod": host}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if App.ending:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        App.last[0] = time.monotonic()

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def main() -> None:
    App.version = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("VERSION", "1.0")
    port = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PORT", "80"))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also in the threads to come: it is waited for below
    server = Server(("0.0.0.0", port), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"my-app {App.version} is listening on port {server.server_port}", flush=True)
    signal.sigwait({signal.SIGTERM})
    App.ending = True
    App.last[0] = time.monotonic()
    while time.monotonic() - App.last[0] < QUIET_SECONDS:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
