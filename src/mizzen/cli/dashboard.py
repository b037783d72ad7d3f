"""`mizzen dashboard envoy POD`: a proxy's admin page on this machine's loopback."""

from __future__ import annotations

import asyncio
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from mizzen.cli import talk
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api
from mizzen.cli.pods import proxied_pod

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi

ADMIN_PORT = 15000


@click.group(cls=Group)
def command() -> None:
    """Open a page of the mesh; Ctrl-C ends it."""


@command.command()
@click.argument("pod")
@click.option("-p", "--port", default=0, help="Local port; 0 takes a free one.")
@click.option("--address", default="localhost", show_default=True)
@click.option("--browser/--no-browser", default=True, help="Open a browser.")
@where
def envoy(pod: str, port: int, address: str, browser: bool, where: Where) -> None:
    """The admin page of a proxy: a POD, deployment/NAME or service/NAME."""

    async def serve(api: HttpApi) -> None:
        namespace, name = await proxied_pod(api, pod, where)
        server = await asyncio.start_server(
            lambda reader, writer: relay(api, namespace, name, reader, writer), address, port
        )
        url = f"http://{address}:{server.sockets[0].getsockname()[1]}"
        click.echo(url)
        if browser and not webbrowser.open(url):
            talk.say("Failed to open browser; open URL in your browser.")
        await server.serve_forever()

    with suppress(KeyboardInterrupt):  # the way to end it
        with_api(where, serve)


command.add_command(envoy, "proxy")
command.later = dict.fromkeys(
    ("kiali", "grafana", "jaeger", "prometheus", "zipkin", "skywalking", "controlz", "istiod-debug"),
    "observability comes with a later release; `mizzen dashboard envoy` opens a proxy's admin page",
)


async def relay(
    api: HttpApi, namespace: str, pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection, both ways, until either side ends it."""
    from mizzen.kube.api import ApiError
    from mizzen.kube.streams import ByteStream, port_forward

    async def upward(stream: ByteStream) -> None:
        while data := await reader.read(65536):
            await stream.write(data)

    async def downward(stream: ByteStream) -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()

    try:
        async with port_forward(api, namespace, pod, ADMIN_PORT) as stream:
            tasks = [asyncio.create_task(upward(stream)), asyncio.create_task(downward(stream))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except ApiError as error:
        talk.warn(f"Pod {pod}: {error}")
    finally:
        writer.close()
