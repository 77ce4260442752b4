"""httpx-sse, with the loop around it that its own documentation leaves to its users."""

import asyncio

import httpx
from httpx_sse import aconnect_sse

from tests.readers.heard import Heard


async def with_httpx_sse(url: str, heard: Heard) -> None:
    """Follow the stream with httpx-sse."""
    last_id, over, pause = "", False, 1.0
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        while not over:
            try:
                async with aconnect_sse(client, "GET", url, headers={"Last-Event-ID": last_id}) as source:
                    if source.response.status_code == 204:
                        return  # nothing is left to come
                    async for event in source.aiter_sse():
                        last_id = event.id
                        over = event.event == "disconnected" and not event.json()["reconnect"]
                        pause = event.retry / 1000 if event.retry is not None else pause
                        heard.told(event.event, last_id, event.data)
            except httpx.TransportError:
                pass  # the connection was lost: that is what the loop is for
            await asyncio.sleep(pause)
