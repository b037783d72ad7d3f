"""helloworld: says which version answered, and which Pod.

`python -m mizzen.samples.helloworld [PORT]`, with $SERVICE_VERSION.
"""

from __future__ import annotations

import os

from mizzen.samples.serving import Request, Response, pod_name, port_argument, serve, text

PORT = 5000


def app(request: Request) -> Response:
    match request.path:
        case "/hello":
            return text(f"Hello version: {os.environ.get('SERVICE_VERSION', 'v1')}, instance: {pod_name()}\n")
        case "/health":
            return text("Helloworld is healthy")
    return text("Not Found\n", 404)


def main() -> None:
    serve(app, port_argument(PORT), "helloworld")


if __name__ == "__main__":
    main()
