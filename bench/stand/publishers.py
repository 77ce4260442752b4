"""Who publishes to the servers of the delivery bench: one connection, many events at once, answers read in passing."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis

from bench.stand.payload import body, data, token, topic_id
from core.log.keys import Keys
from core.views.folds import encode_state
from core.views.project import fold_batch
from core.views.store import CHANGES_LENGTH, ViewStore
from core.views.stored import Update, unheard_of
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import DEFAULT_TENANT, Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

FEED_LENGTH: Final = 1_000
_TTL: Final = 3_600
_SETTLED: Final = b"settled"
_SOURCE: Final = "workflow:progress"
_APPENDED: Final = StreamId(1_767_225_600_000, 0)


class Publisher(Protocol):
    """Publishes to topics by their numbers."""

    connection: socket.socket

    def prepare(self, topics: int) -> None:
        """Make ready what topics up to this number need."""
        ...

    def publish(self, topics: Iterable[int], sent: int) -> None:
        """An event to each, in this order, without waiting for an answer."""
        ...

    def take(self, buffer: bytearray, length: int) -> None:
        """Answers.

        Raises:
            RuntimeError: something was refused.
        """
        ...


class HttpPublisher:
    """Posts events over one connection, without waiting for one to be answered before the next is sent."""

    def __init__(self, port: int, path: str, encode: Callable[[int, int], bytes]) -> None:
        self.connection = _connected(port)
        self._port = port
        self._path = path
        self._encode = encode

    def prepare(self, topics: int) -> None:  # noqa: ARG002 - a topic is there when it is published to
        """Begin with a new connection: servers close one that was quiet for some seconds."""
        self.connection.close()
        self.connection = _connected(self._port)

    def publish(self, topics: Iterable[int], sent: int) -> None:
        """An event to each, in this order."""
        self.connection.sendall(b"".join([self._request(topic, self._encode(topic, sent)) for topic in topics]))

    def _request(self, topic: int, body: bytes) -> bytes:
        head = (
            f"POST {self._path.format(topic_id(topic))} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"X-EventSource-Event: workflow_progress\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def take(self, buffer: bytearray, length: int) -> None:
        """Answers, in which nothing but a status has such a beginning."""
        answered = buffer[:length]
        if answered.count(b"HTTP/1.1 ") != answered.count(b"HTTP/1.1 20"):
            raise RuntimeError(answered.decode())


class FeedPublisher:
    """Leaves in Redis what a projector's commits leave there, without the cost of one.

    A topic's first event is folded and committed through `ViewStore.commit`; later ones are written by plain commands
    in one transaction: feed, change feed with the next number, and the view, whose state differs from that after the
    first event only in when the event was sent.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self.connection = _connected(urlsplit(url).port or 6379)
        self._url = url
        self._keys = keys
        self._change = 0
        self._positions: list[int] = []
        self._epochs: list[bytes] = []
        self._states: list[bytes] = []

    def prepare(self, topics: int) -> None:
        """Have a view of each."""
        missing = range(len(self._positions), topics)
        if missing:
            asyncio.run(self.begin([Topic(DEFAULT_TENANT, "workflow", topic_id(number)) for number in missing]))

    async def begin(self, topics: Sequence[Topic]) -> None:
        """Commit the first event of each."""
        async with Redis.from_url(self._url, protocol=2) as redis:
            store = ViewStore(redis, self._keys, feed_length=FEED_LENGTH, ttl=_TTL)
            source = self._keys.source(_SOURCE, 0)
            for topic in topics:
                first = _first(topic, source.name)
                await store.commit(0, 0, [first], source=source, since=BEGINNING)
                snapshot = await store.snapshot(topic, 0)
                self._positions.append(snapshot.cursor.pos)
                self._epochs.append(snapshot.cursor.epoch.encode())
                self._states.append(encode_state(first.after.state))
            newest = cast("list[tuple[bytes, object]]", await redis.xrevrange(self._keys.changes(0), count=1))
            self._change = StreamId.parse(newest[0][0]).milliseconds

    def cursor(self, topic: int) -> str:
        """Where the topic stands."""
        return f"{self._epochs[topic].decode()}.{self._positions[topic]}"

    def publish(self, topics: Iterable[int], sent: int) -> None:
        """An event to each, in this order, all at once."""
        written = b"".join([self._commands(topic, sent) for topic in topics])
        self.connection.sendall(b"*1\r\n$5\r\nMULTI\r\n%b*1\r\n$4\r\nEXEC\r\n" % written)

    def _commands(self, topic: int, sent: int) -> bytes:
        self._change += 1
        self._positions[topic] += 1
        pos, change = b"%d" % self._positions[topic], b"%d-0" % self._change
        stream_id = b"%d-%b" % (_APPENDED.milliseconds, pos)
        place = Topic(DEFAULT_TENANT, "workflow", topic_id(topic))
        told = (b"event", b"workflow_progress", b"data", data(topic, sent), b"stream_id", stream_id)
        trimmed = (b"MAXLEN", b"~")
        view = self._keys.view(place).encode()
        feed, changes = self._keys.feed(place).encode(), self._keys.changes(0).encode()
        where = (b"topic", place.path.encode(), b"epoch", self._epochs[topic], b"pos", pos)
        state = self._states[topic].replace(token(0), token(sent))
        heard = b'{"%b":"%b"}' % (self._keys.source(_SOURCE, 0).name.encode(), stream_id)
        return (
            _command(b"XADD", feed, *trimmed, b"%d" % FEED_LENGTH, pos + b"-0", *told)
            + _command(b"XADD", changes, *trimmed, b"%d" % CHANGES_LENGTH, change, *where, *told)
            + _command(b"HSET", view, b"version", stream_id, b"pos", pos, b"heard", heard, b"state", state)
        )

    def settle(self) -> None:
        """Return when Redis has carried out all that was published."""
        self.connection.sendall(_command(b"PING", _SETTLED))
        answered = b""
        while _SETTLED not in answered:
            answered = answered[-len(_SETTLED) :] + self.connection.recv(65536)

    def take(self, buffer: bytearray, length: int) -> None:
        """Answers; an error begins with a minus."""
        answered = buffer[:length]
        if answered.startswith(b"-") or b"\n-" in answered:
            raise RuntimeError(answered.decode())


def _first(topic: Topic, source: str) -> Update:
    event = WorkflowProgress.model_validate({"workflow_id": topic.id, **json.loads(body(0, 0))})
    envelope = Envelope(event_id="first", time="2026-01-01T00:00:00.000Z", event=event)
    record = Record.of(source, _APPENDED, 1, envelope, encode_data(event))
    return fold_batch([record], {topic: unheard_of(topic)}, version="first").updates[0]


def _command(*parts: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
