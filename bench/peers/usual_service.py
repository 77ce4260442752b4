"""The peer of `bench.publish_to_sse` and `bench.append`: the usual FastAPI service.

It publishes to a queue per viewer, which sse-starlette sends, and keeps nothing; or it makes one XADD through redis-py
for each request.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis
from sse_starlette import EventSourceResponse

app = FastAPI()
redis = Redis.from_url(os.environ["REDIS_URL"], protocol=2)
viewers: dict[str, set[asyncio.Queue[str]]] = {}


class Body(BaseModel):
    """A progress event."""

    step: str
    progress: float
    message: str | None = None
    user_id: str | None = None
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


@app.post("/append/{topic}", status_code=202)
async def append(topic: str, body: Body) -> dict[str, str]:
    """Add the event to a Redis stream."""
    return {"stream_id": str(await redis.xadd("plain", {"topic": topic, "data": json.dumps(body.model_dump())}))}


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
