"""Commits changes to the kernel and asks which tables it has. Works on the network namespace of the calling thread.

The messages' encoding is pyroute2's; the socket is ours, because pyroute2's own runs an event loop and tells less about
which message of a batch was refused.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mizzen.nftables.messages import Message
from mizzen.nftables.pyroute import alone

with alone():
    from pyroute2.netlink import (
        NETLINK_NETFILTER,
        NLM_F_ACK,
        NLM_F_APPEND,
        NLM_F_CREATE,
        NLM_F_DUMP,
        NLM_F_REQUEST,
    )
    from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg, nftsocket

_INET = 1  # NFPROTO_INET
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR, _DONE = 2, 3
_TIMEOUT = 10.0
_RECEIVE = 1 << 16
_BUFFER = 16 << 20
_HEADER = struct.Struct("=IHHII")
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_CLASSES: dict[str, tuple[Any, int, int]] = {
    "table": (nftsocket.nft_table_msg, nftsocket.NFT_MSG_NEWTABLE, nftsocket.NFT_MSG_DELTABLE),
    "chain": (nftsocket.nft_chain_msg, nftsocket.NFT_MSG_NEWCHAIN, nftsocket.NFT_MSG_DELCHAIN),
    "rule": (nftsocket.nft_rule_msg, nftsocket.NFT_MSG_NEWRULE, nftsocket.NFT_MSG_DELRULE),
    "set": (nftsocket.nft_set_msg, nftsocket.NFT_MSG_NEWSET, nftsocket.NFT_MSG_DELSET),
    "elements": (nftsocket.nft_set_elem_list_msg, nftsocket.NFT_MSG_NEWSETELEM, nftsocket.NFT_MSG_DELSETELEM),
}


class Refused(OSError):
    """The kernel refused a change, and with it the whole batch. `message` is the first one it objected to."""

    def __init__(self, number: int, message: Message | None) -> None:
        about = f"{message.verb} {message.noun} {_named(message)}" if message else "the batch"
        super().__init__(number, f"nftables refused {about}: {os.strerror(number)}")
        self.message = message


def commit(changes: Sequence[Message]) -> None:
    """Applies all changes or none. Raises Refused; OSError where netlink itself is out of reach."""
    if not changes:
        return
    with _open() as netlink:
        netlink.sendall(_batch(changes))
        for error, sequence in _answers(netlink, until=len(changes)):
            if error:
                raise Refused(error, changes[sequence - 1] if 0 < sequence <= len(changes) else None)


def table_names() -> list[str]:
    """The `inet` tables of this network namespace."""
    request = _encoded(nftsocket.nft_table_msg, _kind(nftsocket.NFT_MSG_GETTABLE), NLM_F_REQUEST | NLM_F_DUMP, 1, ())
    names = []
    with _open() as netlink:
        netlink.sendall(request)
        for body in _dumped(netlink):
            message = nftsocket.nft_table_msg(body)
            message.decode()
            names.append(message.get_attr("NFTA_TABLE_NAME"))
    return names


@dataclass(frozen=True, slots=True)
class _Received:
    kind: int
    sequence: int
    data: bytes
    """With the header."""


def _open() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        netlink.settimeout(_TIMEOUT)
        _enlarge(netlink)
        netlink.bind((0, 0))
    except BaseException:
        netlink.close()
        raise
    return netlink


def _enlarge(netlink: socket.socket) -> None:
    """A batch is one datagram. Without root on the machine the buffer grows to `net.core.wmem_max` and no further."""
    for force, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            netlink.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
        except PermissionError:
            netlink.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)


def _batch(changes: Sequence[Message]) -> bytes:
    """Sequence numbers count from 1. Only the last change asks for an answer; refusals come unasked."""
    last = len(changes)
    bodies = [_change(change, number, NLM_F_ACK if number == last else 0) for number, change in enumerate(changes, 1)]
    return b"".join([_frame(_BATCH_BEGIN, 0), *bodies, _frame(_BATCH_END, last + 1)])


def _change(change: Message, sequence: int, flags: int) -> bytes:
    message_class, new, delete = _CLASSES[change.noun]
    if change.verb == "delete":
        return _encoded(message_class, _kind(delete), NLM_F_REQUEST | flags, sequence, change.attributes)
    created = NLM_F_REQUEST | NLM_F_CREATE | (NLM_F_APPEND if change.noun == "rule" else 0)
    return _encoded(message_class, _kind(new), created | flags, sequence, change.attributes)


def _kind(number: int) -> int:
    return int(NFNL_SUBSYS_NFTABLES) << 8 | number


def _frame(kind: int, sequence: int) -> bytes:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    return _finished(message, kind, NLM_F_REQUEST, sequence)


def _encoded(message_class: Any, kind: int, flags: int, sequence: int, attributes: Sequence[tuple[str, Any]]) -> bytes:
    message = message_class()
    message["nfgen_family"] = _INET
    message["attrs"] = list(attributes)
    return _finished(message, kind, flags, sequence)


def _finished(message: Any, kind: int, flags: int, sequence: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message["header"]["sequence_number"] = sequence
    message.encode()
    return bytes(message.data)


def _answers(netlink: socket.socket, until: int) -> Iterator[tuple[int, int]]:
    """(errno or 0, sequence number) of each answer, up to the one for `until` or for the batch as a whole."""
    while True:
        for received in _received(netlink):
            if received.kind != _ERROR:
                continue
            (code,) = struct.unpack_from("=i", received.data, _HEADER.size)
            yield -code, received.sequence
            if received.sequence in (0, until):
                return


def _dumped(netlink: socket.socket) -> Iterator[bytes]:
    while True:
        for received in _received(netlink):
            if received.kind == _DONE:
                return
            if received.kind == _ERROR:
                (code,) = struct.unpack_from("=i", received.data, _HEADER.size)
                raise Refused(-code, None)
            yield received.data


def _received(netlink: socket.socket) -> Iterator[_Received]:
    datagram = netlink.recv(_RECEIVE)
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, _, sequence, _ = _HEADER.unpack_from(datagram, offset)
        yield _Received(kind, sequence, datagram[offset : offset + length])
        offset += (length + 3) & ~3


def _named(message: Message) -> str:
    return " ".join(str(value) for _, value in message.attributes[:2] if isinstance(value, str))
