"""The tables of `istioctl proxy-config`, column by column; `messages` are what JSON and YAML show in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mizzen.cli import render

if TYPE_CHECKING:
    from mizzen.explain.proxy_config import ClusterRow, EndpointRow, ListenerRow, RouteRow
    from mizzen.explain.proxy_secrets import SecretRow

Messages = Sequence[dict[str, Any]]


def clusters(form: str, messages: Messages, rows: Sequence[ClusterRow]) -> None:
    header = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
    cells = [(row.fqdn, str(row.port or ""), row.subset, row.direction, row.type, row.destination_rule) for row in rows]
    render.show(form, messages, header, cells)


def listeners(form: str, messages: Messages, rows: Sequence[ListenerRow], *, verbose: bool = True) -> None:
    if verbose:
        header = ["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
        cells = [[row.addresses, str(row.port), row.match, row.destination] for row in rows]
    else:
        header = ["ADDRESSES", "PORT", "TYPE"]
        cells = [list(one) for one in dict.fromkeys((row.addresses, str(row.port), row.type) for row in rows)]
    render.show(form, messages, header, cells, padding=1)


def routes(form: str, messages: Messages, rows: Sequence[RouteRow]) -> None:
    header = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
    cells = [(row.name, row.virtual_host, row.domains, row.match, row.virtual_service) for row in rows]
    render.show(form, messages, header, cells)


def endpoints(form: str, messages: Messages, rows: Sequence[EndpointRow]) -> None:
    header = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")
    render.show(form, messages, header, [(row.endpoint, row.status, row.outlier_check, row.cluster) for row in rows])


def secrets(form: str, rows: Sequence[SecretRow]) -> None:
    """The rows themselves as JSON and YAML, too: Envoy's own messages would hold more than anyone needs."""
    header = ("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")
    cells = [
        (row.name, row.type, row.status, valid(row.valid), row.serial_number, row.not_after, row.not_before)
        for row in rows
    ]
    render.show(form, rows, header, cells)


def valid(judged: bool | None) -> str:
    return "" if judged is None else str(judged).lower()
