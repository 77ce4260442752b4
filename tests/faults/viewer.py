"""A viewer as a browser is one: it reads, and comes back from where it was whenever its stream ends."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from typing import Any, cast
from urllib.parse import quote

import httpx2
from pydantic_core import from_json

from core.runtime.tasks import running
from pipai_contracts.ids import Topic
from tests.faults.history import Connected, Connecting, History, Received, Told

_COME_BACK_SECONDS = 0.2


class Viewer:
    """Watches one topic, each time through the next of some api processes. ``cursor`` is where it stands."""

    def __init__(self, name: str, ports: Sequence[int], topic: Topic, history: History) -> None:
        self.topic = topic
        self.cursor: str | None = None
        self._name = name
        self._hosts = cycle(f"http://127.0.0.1:{port}" for port in ports)
        self._path = f"/stream/{topic.kind}/{quote(topic.id, safe='')}"
        self._history = history

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Watch while the block lasts."""
        timeout = httpx2.Timeout(10, read=30)
        async with httpx2.AsyncClient(timeout=timeout) as client, running(self._watch(client)):
            yield

    async def _watch(self, client: httpx2.AsyncClient) -> None:
        while True:
            with suppress(httpx2.HTTPError):  # it comes back, as EventSource does
                await self._stream(client)
            await asyncio.sleep(_COME_BACK_SECONDS)

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        self._history.add(Connecting(viewer=self._name, topic=self.topic.path, cursor=self.cursor))
        headers = {"Last-Event-ID": self.cursor} if self.cursor is not None else {}
        async with client.stream("GET", next(self._hosts) + self._path, headers=headers) as response:
            if response.status_code != 200:
                return
            fields: dict[str, str] = {}
            async for line in response.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                self._take(fields)
                fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        cursor, event = fields.get("id"), fields.get("event")
        if cursor is None or event is None:
            return  # a comment, or what Temporal says, or the latest progress again: they have no position
        self.cursor = cursor
        match event:
            case "connected":
                data = cast("dict[str, Any]", from_json(fields["data"]))
                self._history.add(Connected(viewer=self._name, cursor=cursor, resumed=data["resumed"]))
            case "reset":
                data = cast("dict[str, Any]", from_json(fields["data"]))
                self._history.add(Told(viewer=self._name, reason=data["reason"], cursor=cursor))
            case _:
                self._history.add(Received(viewer=self._name, cursor=cursor, event=event, data=fields["data"]))
