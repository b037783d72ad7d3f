"""tcp-echo: answers each line with a prefix and the line.

`python -m mizzen.samples.tcp_echo PORT[,PORT…] PREFIX [--server-first GREETING]`. With a greeting the server speaks
first, as MySQL or SMTP do: what protocol sniffing must not hold up.
"""

from __future__ import annotations

import argparse
import socketserver
import threading

from mizzen.samples.serving import Traffic, everywhere, plain, take_both, termination


class _Echo(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        if self.server.greeting:
            self.wfile.write(self.server.greeting + b"\n")
        for line in self.rfile:
            with self.server.traffic.request():
                print(f"{plain(self.client_address[0])} {line!r}", flush=True)
                self.wfile.write(self.server.prefix + b" " + line)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int, prefix: bytes, greeting: bytes, traffic: Traffic) -> None:
        self.prefix, self.greeting, self.traffic = prefix, greeting, traffic
        self.address_family, address = everywhere()
        super().__init__((address, port), _Echo)

    def server_bind(self) -> None:
        take_both(self.socket)
        super().server_bind()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers each line with a prefix and the line.")
    parser.add_argument("ports", nargs="?", default="9000,9001,9002", help="comma-separated")
    parser.add_argument("prefix", nargs="?", default="hello")
    parser.add_argument("--server-first", metavar="GREETING", default="", help="a line to begin each connection with")
    options = parser.parse_args()
    traffic, wait_for_the_end = Traffic(), termination()
    ports = [int(port) for port in options.ports.split(",")]
    servers = [_Server(port, options.prefix.encode(), options.server_first.encode(), traffic) for port in ports]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(None,), daemon=True).start()
        print(f"tcp-echo is listening on port {server.server_address[1]}", flush=True)
    wait_for_the_end()
    traffic.drain()


if __name__ == "__main__":
    main()
