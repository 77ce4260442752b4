"""A server that speaks OpenAI's chat completions as far as the analyst asks, and misbehaves when told to."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.conftest import wait_until

CUT: Final = "<cut the connection>"
STOP_EARLY: Final = "<end without saying so>"


@dataclass(frozen=True)
class Refusal:
    """An answer that is a status."""

    status: int
    retry_after: str | None = None


Answer = Refusal | list[str]
"""A refusal, or the pieces of text to stream, with `CUT` or `STOP_EARLY` among them."""


@dataclass
class ModelServer:
    """Answers each request with the next of ``answers``, the last one again and again."""

    answers: list[Answer]
    prompts: list[str] = field(default_factory=list[str])
    base_url: str = "http://127.0.0.1:9/v1"  # the discard port, where nothing listens

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        assert body["stream"] is True
        self.prompts.append(body["messages"][-1]["content"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Refusal):
            headers = {"retry-after": answer.retry_after} if answer.retry_after else {}
            return JSONResponse({"error": {"message": "no"}}, status_code=answer.status, headers=headers)
        return StreamingResponse(_stream(answer), media_type="text/event-stream")


async def _stream(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        if piece == CUT:
            raise ConnectionError("as if the server had crashed")
        if piece == STOP_EARLY:
            return
        yield _chunk({"content": piece}, None)
    yield _chunk({}, "stop")
    yield "data: [DONE]\n\n"


def _chunk(delta: dict[str, str], finish: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


@asynccontextmanager
async def model_server() -> AsyncGenerator[ModelServer]:
    """Serve while the block runs."""
    model = ModelServer([])
    app = Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    model.base_url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    yield model
    server.should_exit = True
    await serving
