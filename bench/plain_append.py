"""The peer of the append bench: the usual FastAPI route, and one XADD through redis-py for each request."""

import json
import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis

app = FastAPI()
redis = Redis.from_url(os.environ["REDIS_URL"], protocol=2)


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
async def publish(topic: str, body: Body) -> dict[str, str]:
    """Add the event to a stream."""
    return {"stream_id": str(await redis.xadd("plain", {"topic": topic, "data": json.dumps(body.model_dump())}))}
