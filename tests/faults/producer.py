"""A producer's keep-alive connection to ingest, and what its answers mean, of one event or of many."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote

from pydantic_core import from_json, to_json

from pipai_contracts.envelope import Envelope
from tests.faults.history import Answered, History, Invoked

ANSWER_SECONDS = 8.0
"""How long a producer waits; then nobody knows whether its event is stored."""


_ACCEPTED = 202
_STORED = 200
_BATCH = "/stream/publish/batch"
_STATUS = {"appended": _ACCEPTED, "duplicate": _ACCEPTED, "invalid": 422, "unavailable": 503}


class Unanswered(Exception):  # noqa: N818 - it is no error of ours
    """The connection ended, or nothing came in time."""


class Producer:
    """Sends events one after the other and writes down what became of each attempt."""

    _ops = 0

    def __init__(self, port: int, history: History) -> None:
        self._port = port
        self._history = history
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """One attempt, alone or as a batch; the events that got no definite yes or no."""
        ops = [self._begin(envelope.event_id, envelope) for envelope in envelopes]
        if len(envelopes) == 1:
            answers = [await self._answer(_path(envelopes[0]), _body(envelopes[0]))]
        else:
            status, answer = await self._answer(_BATCH, [_item(envelope) for envelope in envelopes])
            outcomes = answer["outcomes"] if status == _STORED else [{"status": "unavailable"}] * len(envelopes)
            answers = [(_STATUS[outcome["status"]], outcome) for outcome in outcomes]
        answered = [_answered(op, *answer) for op, answer in zip(ops, answers, strict=True)]
        for one in answered:
            self._history.add(one)
        return [envelope for envelope, one in zip(envelopes, answered, strict=True) if one.outcome == "info"]

    async def publish_nonsense(self, envelope: Envelope) -> None:
        """Send an event that is none: a step without a name."""
        op = self._begin(envelope.event_id, None)
        self._history.add(_answered(op, *await self._answer(_path(envelope), {**_body(envelope), "step": ""})))

    def note(self, envelope: Envelope, answer: dict[str, Any] | None) -> None:
        """An attempt by another way than HTTP: where the event stands, or None where nobody knows."""
        op = self._begin(envelope.event_id, envelope)
        self._history.add(_answered(op, _ACCEPTED if answer is not None else 503, answer or {}))

    def _begin(self, event_id: str, envelope: Envelope | None) -> int:
        Producer._ops += 1
        self._history.add(Invoked(op=Producer._ops, event_id=event_id, envelope=envelope))
        return Producer._ops

    async def _answer(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer; status 0 when there was none."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._post(path, to_json(body))
        except (OSError, TimeoutError, Unanswered, asyncio.IncompleteReadError):
            self._hang_up()
            return 0, {}

    async def _post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\n\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        lengths = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        if not lengths:
            raise Unanswered
        answer = await reader.readexactly(lengths[0])
        if "connection: close" in lines:
            self._hang_up()
        return int(lines[0].split()[1]), from_json(answer)

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hang_up()


def _answered(op: int, status: int, answer: dict[str, Any]) -> Answered:
    if status in {_ACCEPTED, _STORED}:
        places = {name: answer[name] for name in ("stream", "stream_id", "offset", "duplicate")}
        return Answered.model_validate({"op": op, "outcome": "ok", **places})
    return Answered(op=op, outcome="fail" if 400 <= status < 500 else "info")


def _path(envelope: Envelope) -> str:
    names = {
        "workflow_progress": "workflow",
        "analysis_progress": "analysis",
        "ai_progress": "ai",
        "notification": "notification",
    }
    return f"/stream/publish/{names[envelope.event.type]}/{quote(envelope.topic.id, safe='')}"


def _body(envelope: Envelope) -> dict[str, Any]:
    kind = envelope.topic.kind
    event = envelope.event.model_dump(exclude={"type", f"{kind}_id"}, exclude_none=True)
    more = {
        "event_id": envelope.event_id,
        "timestamp": envelope.time,
        "run_id": envelope.run_id,
        "user_id": envelope.user_id,
    }
    return {**event, **{name: value for name, value in more.items() if value is not None}}


def _item(envelope: Envelope) -> dict[str, Any]:
    """The event as one of a batch."""
    topic = envelope.topic
    return {**_body(envelope), "type": envelope.event.type, f"{topic.kind}_id": topic.id}
