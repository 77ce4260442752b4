"""The plain peer of `bench.delivery`: FastAPI, an asyncio queue per viewer, sse-starlette. Nothing is kept."""

import asyncio
from collections.abc import AsyncGenerator

from fastapi import FastAPI, Request, Response
from sse_starlette import EventSourceResponse

app = FastAPI()
viewers: dict[str, set[asyncio.Queue[str]]] = {}


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ready"}


@app.post("/publish/{topic}")
async def publish(topic: str, request: Request) -> Response:
    """Hand the event to every viewer of the topic."""
    data = (await request.body()).decode()
    for queue in viewers.get(topic, set()):
        queue.put_nowait(data)
    return Response(status_code=202)


@app.get("/stream/{topic}")
async def stream(topic: str) -> EventSourceResponse:
    """The topic's events from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def events() -> AsyncGenerator[dict[str, str]]:
        watching = viewers.setdefault(topic, set())
        watching.add(queue)
        try:
            while True:
                yield {"event": "workflow_progress", "data": await queue.get()}
        finally:
            watching.discard(queue)

    return EventSourceResponse(events())
