"""`curl` in the client Pods: the machine's own where it has one, else the few options that examples use."""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import ssl
import sys
from urllib.parse import urljoin, urlsplit

MOST_REDIRECTS = 10
COULD_NOT_RESOLVE, COULD_NOT_CONNECT, FAILED, TIMED_OUT = 6, 7, 22, 28
"""curl's exit codes."""


def main() -> None:
    if program := shutil.which("curl"):
        os.execv(program, ["curl", *sys.argv[1:]])  # noqa: S606 - this process is meant to become curl
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    options = _options(arguments)
    try:
        answer, content = _fetch(options)
    except TimeoutError:
        return _complain(options, TIMED_OUT, f"no answer within {options.max_time:g} seconds")
    except ConnectionError as error:
        return _complain(options, COULD_NOT_CONNECT, f"Failed to connect: {error}")
    except OSError as error:
        return _complain(options, COULD_NOT_RESOLVE, f"Could not reach the host: {error}")
    if options.fail and answer.status >= 400:
        return _complain(options, FAILED, f"The requested URL returned error: {answer.status}")
    _write(options, answer, content)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="curl", add_help=False)
    parser.add_argument("url")
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-S", "--show-error", action="store_true")
    parser.add_argument("-f", "--fail", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-k", "--insecure", action="store_true")
    parser.add_argument("-L", "--location", action="store_true")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-I", "--head", action="store_true")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-X", "--request", default="")
    parser.add_argument("-d", "--data", action="append", default=[])
    parser.add_argument("-o", "--output", default="-")
    parser.add_argument("-w", "--write-out", default="")
    parser.add_argument("-m", "--max-time", type=float)
    parser.add_argument("--connect-timeout", type=float)
    return parser.parse_args(arguments)


def _fetch(options: argparse.Namespace) -> tuple[http.client.HTTPResponse, bytes]:
    url = options.url if "://" in options.url else f"http://{options.url}"
    for _ in range(MOST_REDIRECTS):
        answer, content = _once(options, url)
        target = answer.headers.get("Location")
        if not (options.location and target and 300 <= answer.status < 400):
            break
        url = urljoin(url, target)
    return answer, content


def _once(options: argparse.Namespace, url: str) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    data = "&".join(options.data).encode() or None
    method = options.request or ("HEAD" if options.head else "POST" if data else "GET")
    connection = _connection(options, parts.scheme, parts.netloc)
    headers = {"User-Agent": "curl", "Accept": "*/*"}
    if data:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    headers |= {name.strip(): value.strip() for name, _, value in (each.partition(":") for each in options.header)}
    connection.request(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), data, headers)
    answer = connection.getresponse()
    if options.verbose:
        lines = [f"> {method} {parts.path or '/'}", *_status_lines(answer, "< ")]
        print("\n".join(lines), file=sys.stderr)
    return answer, answer.read()


def _connection(options: argparse.Namespace, scheme: str, address: str) -> http.client.HTTPConnection:
    timeout = options.max_time or options.connect_timeout
    if scheme == "http":
        return http.client.HTTPConnection(address, timeout=timeout)
    context = ssl.create_default_context()
    if options.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(address, timeout=timeout, context=context)


def _status_lines(answer: http.client.HTTPResponse, prefix: str = "") -> list[str]:
    headers = [f"{prefix}{name}: {value}" for name, value in answer.getheaders()]
    return [f"{prefix}HTTP/1.1 {answer.status} {answer.reason}", *headers]


def _write(options: argparse.Namespace, answer: http.client.HTTPResponse, content: bytes) -> None:
    shown = b""
    if options.include or options.head:
        shown = "\r\n".join([*_status_lines(answer), "", ""]).encode()
    if options.output == "-":
        sys.stdout.buffer.write(shown + content)
    else:
        with open(options.output, "wb") as file:  # noqa: PTH123 - /dev/null is a file too
            file.write(shown + content)
    after = options.write_out.replace("\\n", "\n")
    for name in ("http_code", "response_code"):
        after = after.replace(f"%{{{name}}}", str(answer.status))
    sys.stdout.buffer.write(after.encode())
    sys.stdout.flush()


def _complain(options: argparse.Namespace, code: int, message: str) -> int:
    if not options.silent or options.show_error:
        print(f"curl: ({code}) {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
