"""What a client sends through an older port-forward waits for the Pod, and no longer than that."""

import asyncio

from mizzen.embedded.apiserver.streams.port_forward import WAITING_MESSAGES, _read_channels
from mizzen.embedded.apiserver.streams.session import SpdySession, SpdyStream


class Client:
    """Sends two messages more to its first port than may wait, and one to its second."""

    sent = 0

    async def messages(self):
        for message in [b"\0a"] * (WAITING_MESSAGES + 2) + [b"\2b"]:
            self.sent += 1
            yield message


async def test_a_client_is_read_no_faster_than_the_pod_reads():
    client, inboxes = Client(), [asyncio.Queue(WAITING_MESSAGES) for _ in range(2)]
    forwards = [asyncio.create_task(asyncio.Event().wait()) for _ in inboxes]
    reading = asyncio.create_task(_read_channels(client, inboxes, forwards))
    await asyncio.wait({reading}, timeout=0.05)
    assert inboxes[0].full() and client.sent == WAITING_MESSAGES + 1 and not reading.done()
    assert await inboxes[0].get() == b"a"
    await asyncio.wait({reading}, timeout=0.05)
    assert client.sent == WAITING_MESSAGES + 2 and not reading.done()
    forwards[0].cancel()  # the Pod's side has ended: what is still sent to it holds nothing up
    await asyncio.wait_for(reading, 5)
    assert await inboxes[1].get() == b"b"
    forwards[1].cancel()
    await asyncio.gather(*forwards, return_exceptions=True)


async def test_a_stream_that_nobody_reads_any_more_holds_no_other_up():
    session = SpdySession(duplex=None)
    stream = SpdyStream(session, 1, {})
    for _ in range(SpdyStream.UNREAD):
        await stream.feed(b"a")
    feeding = asyncio.create_task(stream.feed(b"one too many"))
    await asyncio.wait({feeding}, timeout=0.02)
    assert not feeding.done()
    session.forget(stream)
    await asyncio.wait_for(feeding, 5)
    await asyncio.wait_for(stream.feed(b"and more"), 5)
