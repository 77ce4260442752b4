"""An api for the page alone: it serves the page's files and says exactly what a test wants said.

It exists for faults that a whole system does not produce on demand: a cut connection, a refusal, garbage.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

PAGES = Path(__file__).parents[2] / "services" / "api" / "pages"
EPOCH = "e1"
WORKFLOW, FILE = "wf-1", "file-1"

CUT = b"cut"
END = b"end"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def frame(event: str, data: dict[str, Any], cursor: str | None = None) -> bytes:
    """The bytes of one SSE message."""
    head = f"id: {cursor}\n" if cursor else ""
    return f"event: {event}\n{head}data: {json.dumps(data)}\n\n".encode()


def problem(status: int, title: str, detail: str, **more: Any) -> JSONResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "errors": [],
        **more,
    }
    return JSONResponse(body, status, media_type="application/problem+json")


@dataclass
class Topic:
    """One feed: `frames[n]` stands at pos n + 1; every open connection has a queue."""

    frames: list[bytes] = field(default_factory=list[bytes])
    view: dict[str, Any] | None = None
    connections: list[asyncio.Queue[bytes]] = field(default_factory=list[asyncio.Queue[bytes]])

    @property
    def cursor(self) -> str:
        return f"{EPOCH}.{len(self.frames)}" if self.frames else "0"

    def publish(self, event: str, data: dict[str, Any]) -> None:
        cursor = f"{EPOCH}.{len(self.frames) + 1}"
        self.frames.append(frame(event, {**data, "timestamp": data.get("timestamp", now())}, cursor))
        self.write(self.frames[-1])

    def write(self, raw: bytes) -> None:
        """Send bytes that are not in the feed, or CUT, or END."""
        for connection in self.connections:
            connection.put_nowait(raw)

    def missing_after(self, cursor: str) -> list[bytes]:
        return self.frames[int(cursor.rpartition(".")[2]) :]


@dataclass
class FakeApi:
    """What the page's server knows, and what it was asked."""

    retry: int = 200
    attempts: int = 5
    heartbeat: float = 15
    topics: dict[str, Topic] = field(default_factory=dict[str, Topic])
    cursors: dict[str, list[str | None]] = field(default_factory=dict[str, list[str | None]])
    """Path → the cursor of each stream request, in order; refused ones too."""
    refusal: JSONResponse | None = None
    upload_refusal: JSONResponse | None = None
    upload_gate: asyncio.Event = field(default_factory=asyncio.Event)
    """An upload is answered once this is set, which it is unless a test clears it."""
    uploads: list[tuple[str, bytes, str | None]] = field(default_factory=list[tuple[str, bytes, str | None]])
    health: dict[str, Any] = field(
        default_factory=lambda: {
            "status": "healthy",
            "services": {"redis": "healthy", "temporal": "healthy"},
            "active_streams": 2,
        }
    )

    def __post_init__(self) -> None:
        self.upload_gate.set()

    @property
    def workflow(self) -> Topic:
        return self.topic(f"workflow/{WORKFLOW}")

    @property
    def file(self) -> Topic:
        return self.topic(f"file/{FILE}")

    def topic(self, path: str) -> Topic:
        return self.topics.setdefault(path, Topic())

    def asked(self, path: str = f"workflow/{WORKFLOW}") -> list[str | None]:
        return self.cursors.get(path, [])

    def connected(self, topic: Topic, cursor: str | None) -> bytes:
        data = {
            "cursor": cursor or topic.cursor,
            "resumed": cursor is not None,
            "view": None if cursor else topic.view,
            "heartbeat": self.heartbeat,
            "retry": self.retry,
            "attempts": self.attempts,
            "timestamp": now(),
        }
        return frame("connected", data, cursor or topic.cursor)

    async def stream(self, topic: Topic, cursor: str | None) -> AsyncIterator[bytes]:
        queue = asyncio.Queue[bytes]()
        missing = topic.missing_after(cursor) if cursor else []
        topic.connections.append(queue)
        try:
            yield self.connected(topic, cursor)
            for raw in missing:
                yield raw
            while (raw := await queue.get()) != END:
                if raw == CUT:
                    raise ConnectionAbortedError
                yield raw
        finally:
            topic.connections.remove(queue)

    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/demo/streaming")(lambda: FileResponse(PAGES / "demo.html"))
        app.get("/demo/assets/{name}")(lambda name: FileResponse(PAGES / name))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        app.get("/stream/health")(lambda: self.health)
        app.get("/stream/{kind}/{id}")(self.answer_stream)
        app.get("/views/{kind}/{id}")(self.answer_view)
        app.post("/upload")(self.answer_upload)
        return app

    async def answer_stream(self, kind: str, id: str, cursor: str | None = None) -> Response:  # noqa: A002
        path = f"{kind}/{id}"
        self.cursors.setdefault(path, []).append(cursor)
        if self.refusal is not None:
            return self.refusal
        topic = self.topic(path)
        return StreamingResponse(self.stream(topic, cursor), media_type="text/event-stream")

    async def answer_view(self, kind: str, id: str) -> Response:  # noqa: A002
        topic = self.topic(f"{kind}/{id}")
        return JSONResponse({"kind": kind, "id": id, "cursor": topic.cursor, "view": topic.view})

    async def answer_upload(self, request: Request) -> Response:
        async with request.form() as form:
            await self.upload_gate.wait()
            if self.upload_refusal is not None:
                return self.upload_refusal
            file, user = form["file"], form.get("user_id")
            assert not isinstance(file, str)
            self.uploads.append((file.filename or "", await file.read(), user if isinstance(user, str) else None))
        return JSONResponse(
            {
                "file_id": FILE,
                "workflow_id": WORKFLOW,
                "stream_url": f"/stream/workflow/{WORKFLOW}",
                "file_stream_url": f"/stream/file/{FILE}",
            },
            202,
        )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Ctrl-C belongs to the test run."""
        yield


class FakeServer:
    """The fake api behind a real port, which a test can take away and give back."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self._port = 0
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.api.app(), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=0
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Cut every connection and leave the port."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None
