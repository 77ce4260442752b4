"""The peer of the benches: the usual FastAPI + sse-starlette service, a queue per viewer, nothing kept."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

app = FastAPI()
viewers: dict[str, set[asyncio.Queue[str]]] = {}


class Body(BaseModel):
    """A progress event."""

    step: str
    progress: float
    message: str | None = None
    metadata: dict[str, Any] = {}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ready"}


@app.post("/publish/{topic}", status_code=202)
async def publish(topic: str, body: Body) -> dict[str, int]:
    """Hand the event to every viewer of the topic."""
    data = json.dumps(body.model_dump())
    queues = viewers.get(topic, set())
    for queue in queues:
        queue.put_nowait(data)
    return {"viewers": len(queues)}


@app.get("/stream/{topic}")
async def stream(topic: str) -> EventSourceResponse:
    """The topic's events from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def events() -> AsyncGenerator[dict[str, str]]:
        viewers.setdefault(topic, set()).add(queue)
        try:
            while True:
                yield {"event": "workflow_progress", "data": await queue.get()}
        finally:
            viewers[topic].discard(queue)

    return EventSourceResponse(events())
